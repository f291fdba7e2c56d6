import "./reset.css";
import "vuetify/styles";
import "./style.css";
import { createApp, watch } from "vue";
import { createVuetify } from "vuetify";
import { aliases, mdi } from "vuetify/iconsets/mdi-svg";
import { de, en } from "vuetify/locale";
import App from "./App.vue";
import { i18n } from "./i18n";
import type { ApiError } from "./api/client";
import { primaries } from "./lib/colour";
import { unreached } from "./lib/load";
import { refresh, session } from "./lib/session";
import { router } from "./router";

/** Who is here: asked until the platform answers, which it does not while it starts anew. */
async function reached(): Promise<void> {
  const place = document.getElementById("app") as HTMLElement;
  for (;;) {
    try {
      await refresh();
      place.textContent = "";
      return;
    } catch (fault) {
      if (!unreached(fault as ApiError)) throw fault;
      place.textContent = i18n.global.t("unreached");
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
}

async function begin(): Promise<void> {
  await reached();
  const primary = primaries(session.platform?.color ?? "#1f5fa8");
  const dark = localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const vuetify = createVuetify({
    locale: { locale: i18n.global.locale.value, fallback: "en", messages: { de, en } },
    icons: { defaultSet: "mdi", aliases, sets: { mdi } },
    theme: {
      defaultTheme: dark,
      themes: {
        light: { variables: { "medium-emphasis-opacity": 0.82 }, colors: { primary: primary.light, background: "#f5f7fa", surface: "#ffffff", error: "#b3261e", success: "#1d6f42", warning: "#8a5a00" } },
        dark: { dark: true, variables: { "medium-emphasis-opacity": 0.82 }, colors: { primary: primary.dark, background: "#10161d", surface: "#1a222c", error: "#f2b8b5", success: "#7fd6a2", warning: "#f0c674" } },
      },
    },
    defaults: {
      VBtn: { variant: "flat", rounded: "lg", class: "text-none" },
      VCard: { rounded: "lg", border: true, elevation: 0 },
      VTextField: { variant: "outlined", density: "comfortable", hideDetails: "auto" },
      VTextarea: { variant: "outlined", density: "comfortable", hideDetails: "auto" },
      VSelect: { variant: "outlined", density: "comfortable", hideDetails: "auto" },
      VAutocomplete: { variant: "outlined", density: "comfortable", hideDetails: "auto" },
      VCheckbox: { density: "comfortable", hideDetails: "auto" },
      VSwitch: { density: "compact", hideDetails: "auto", color: "primary" },
      VTable: { density: "comfortable" },
      VAlert: { variant: "tonal", rounded: "lg" },
    },
  });
  watch(i18n.global.locale, (language) => (vuetify.locale.current.value = language)); // its own words, too
  createApp(App).use(vuetify).use(i18n).use(router).mount("#app");
}

void begin();
