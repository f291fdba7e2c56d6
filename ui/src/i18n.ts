import { createI18n } from "vue-i18n";
import { messages } from "./texts";

const kept = localStorage.getItem("language");
const first = kept ?? (navigator.language.startsWith("de") ? "de" : "en");

export const i18n = createI18n({ legacy: false, locale: first, fallbackLocale: "en", messages });

export function useLanguage(language: "en" | "de"): void {
  i18n.global.locale.value = language;
  localStorage.setItem("language", language);
  speak(language);
}

/** Languages that are written from the right; there are none of ours yet, and nothing else has to change when there are. */
const FROM_RIGHT = new Set(["ar", "fa", "he", "ur"]);
function speak(language: string): void {
  document.documentElement.lang = language;
  document.documentElement.dir = FROM_RIGHT.has(language) ? "rtl" : "ltr";
}
speak(first);

/** The language as it is written where the reader is: British dates are not American ones. */
const place = (): string => (navigator.language.startsWith(i18n.global.locale.value) ? navigator.language : i18n.global.locale.value);

/** A moment as people here write it. */
export function when(moment: string | null | undefined, withTime: boolean | "seconds" = true): string {
  if (!moment) return "";
  const style = withTime ? ({ dateStyle: "medium", timeStyle: withTime === "seconds" ? "medium" : "short" } as const) : ({ dateStyle: "medium" } as const);
  return new Intl.DateTimeFormat(place(), style).format(new Date(moment));
}

/** A figure to read and compare: with its fraction only while that says something. */
export function number(value: number): string {
  return new Intl.NumberFormat(place(), { maximumFractionDigits: value < 10 ? 2 : 0 }).format(value);
}

export function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = count > 0 ? Math.min(units.length - 1, Math.floor(Math.log(count) / Math.log(1024))) : 0;
  return `${new Intl.NumberFormat(place(), { maximumFractionDigits: 1 }).format(count / 1024 ** power)} ${units[power]}`;
}
