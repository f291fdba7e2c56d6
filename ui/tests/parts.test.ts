import { mount } from "@vue/test-utils";
import { afterEach, describe, expect, it } from "vitest";
import { nextTick } from "vue";
import { createVuetify } from "vuetify";
import { ApiError } from "../src/api/client";
import { i18n, useLanguage } from "../src/i18n";
import Console from "../src/parts/Console.vue";
import Fault from "../src/parts/Fault.vue";
import FormFields from "../src/parts/FormFields.vue";

const global = { plugins: [createVuetify(), i18n] };
afterEach(() => useLanguage("en"));

describe("a fault", () => {
  const limit = new ApiError(409, "query.time_limit", "It ran longer than 5 s.", [], "The query ran longer than it may.");
  it("is told in the API's words", () => expect(mount(Fault, { global, props: { error: limit } }).text()).toContain("It ran longer than 5 s."));
  it("is told in German, with what the API says beyond its usual sentence", async () => {
    useLanguage("de");
    const shown = mount(Fault, { global, props: { error: limit } });
    await nextTick();
    expect(shown.text()).toContain("Die Abfrage lief länger, als sie darf. (It ran longer than 5 s.)");
    await shown.setProps({ error: new ApiError(409, "query.time_limit", limit.title, [], limit.title) });
    expect(shown.text()).not.toContain("(");
  });
  it("of a platform that is away offers to try again", async () => {
    let tried = 0;
    const away = Object.assign(new ApiError(0, "network", ""), { again: () => (tried += 1) });
    const shown = mount(Fault, { global, props: { error: away } });
    await shown.get("button").trigger("click");
    expect(tried).toBe(1);
  });
  it("of nothing shows nothing", () => expect(mount(Fault, { global, props: { error: null } }).html()).not.toContain("alert"));
});

describe("the console", () => {
  const lines = [
    { key: 1, integration: "i", level: "INFO", text: "hello\n" },
    { key: 2, integration: "i", level: "ERROR", text: "no answer\n" },
  ];
  it("tells levels not by colour alone", () => expect(mount(Console, { global, props: { lines } }).text()).toMatch(/hello\s*✖\s*no answer/));
  it("can be cleared, and goes on with what comes", async () => {
    const shown = mount(Console, { global, props: { lines } });
    await shown.get("button").trigger("click");
    expect(shown.text()).not.toContain("hello");
    await shown.setProps({ lines: [...lines, { key: 3, integration: "i", level: "INFO", text: "again" }] });
    expect(shown.text()).toContain("again");
  });
});

describe("a registration form", () => {
  it("has a field for each question, named by its label", () => {
    const fields = [{ name: "affiliation", type: "text", label: "Where do you work?", required: true }] as never;
    const form = mount(FormFields, { global, props: { fields, modelValue: {}, tried: true } });
    expect(form.text()).toContain("Where do you work?");
    expect(form.text()).toContain("This is needed.");
  });
});
