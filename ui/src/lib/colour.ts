// The brand's colour, made so that words in it, and white words on it, can be read (WCAG 2.2, 1.4.3).

type Rgb = [number, number, number];
/** More than the 4.5 that the rule asks for: tinted buttons have words in a colour on a little of the same. */
const READABLE = 5.5;
const SURFACE = { light: "#ffffff", dark: "#1a222c" };

const parse = (hex: string): Rgb => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)) as Rgb;
const print = (rgb: Rgb): string => `#${rgb.map((part) => Math.round(part).toString(16).padStart(2, "0")).join("")}`;

/** Relative luminance (https://www.w3.org/TR/WCAG22/#dfn-relative-luminance). */
function luminance(rgb: Rgb): number {
  const [red, green, blue] = rgb.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4)) as Rgb;
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** From 1 (the same) to 21 (black and white), of two colours as `#rrggbb`. */
export function contrast(one: string, other: string): number {
  const [dark, light] = [luminance(parse(one)), luminance(parse(other))].sort((a, b) => a - b) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

/** A brand's colour, or the nearest shade of it that can be read in a theme: darker on light, lighter on dark. */
export function readable(hex: string, theme: "light" | "dark"): string {
  const end = theme === "light" ? 0 : 255;
  for (let step = 0; step <= 20; step++) {
    const shade = print(parse(hex).map((part) => part + ((end - part) * step) / 20) as Rgb);
    if (contrast(shade, SURFACE[theme]) >= READABLE) return shade;
  }
  return print([end, end, end]);
}

/** What both themes have as their first colour. */
export const primaries = (hex: string) => ({ light: readable(hex, "light"), dark: readable(hex, "dark") });
