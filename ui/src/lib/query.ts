// Asking governed data: one statement, its answer as rows. Every one is on the record.
import { ApiError } from "../api/client";
import { i18n } from "../i18n";
import { teamOf } from "./session";

export type Row = Record<string, unknown>;

/** Why no answer came: whoever asked has stopped it, or the network did. */
const cutOff = (signal?: AbortSignal) => (signal?.aborted ? new ApiError(499, "query.cancelled", i18n.global.t("queryCancelled")) : new ApiError(0, "network", ""));

/** The platform's answer in a form: JSON, CSV.
 * @throws ApiError when it gives none. */
export async function send(space: string, sql: string, accept: string, signal?: AbortSignal): Promise<Response> {
  let answer: Response;
  try {
    const body = JSON.stringify({ sql, team: teamOf(space) });
    answer = await fetch(`/api/v1/spaces/${space}/query`, { method: "POST", headers: { "Content-Type": "application/json", Accept: accept }, body, signal });
  } catch {
    throw cutOff(signal);
  }
  if (answer.ok) return answer;
  const said = (await answer.json().catch(() => ({ code: "internal", detail: "" }))) as { code: string; title?: string; detail: string };
  if (answer.status === 401) window.dispatchEvent(new CustomEvent("cloister:signed-out"));
  throw new ApiError(answer.status, said.code, said.detail, [], said.title);
}

/** The names of columns, each once: what a statement calls the same is counted. */
export function named(columns: string[]): string[] {
  const names: string[] = [];
  for (const column of columns) {
    let name = column;
    for (let number = 2; names.includes(name); number += 1) name = `${column}_${number}`;
    names.push(name);
  }
  return names;
}

const NUMBER = /^(u?int\d*|float|halffloat|double|decimal)/i;

/** `numbers` are the columns of numbers, also of decimals, which come as text so that no digit is lost.
 * `names` has the columns in their order, which the keys of an object need not keep. */
export async function ask(space: string, sql: string, signal?: AbortSignal): Promise<{ names: string[]; numbers: string[]; rows: Row[]; cached: boolean }> {
  const answer = await send(space, sql, "application/json", signal);
  let found: { columns: (string | { name: string; type?: string })[]; rows: unknown[][] };
  try {
    found = await answer.json();
  } catch {
    throw cutOff(signal); // it was cut off
  }
  const names = named(found.columns.map((column) => (typeof column === "string" ? column : column.name)));
  const numbers = names.filter((_name, index) => NUMBER.test(String((found.columns[index] as { type?: string }).type ?? "")));
  return { names, numbers, rows: found.rows.map((row) => Object.fromEntries(names.map((name, index) => [name, row[index]]))), cached: answer.headers.get("Cloister-Cached") === "yes" };
}

/** A cell as people read it. */
export function shown(value: unknown): string {
  // A whole number may be a year or a key: it is written as it is.
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : value.toLocaleString(i18n.global.locale.value, { maximumFractionDigits: 6 });
  return value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value);
}
