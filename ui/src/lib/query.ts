// Asking governed data: one statement, its answer as rows. Every one is on the record.
import { ApiError } from "../api/client";
import { teamOf } from "./session";

export type Row = Record<string, unknown>;

/** The platform's answer in a form: JSON, CSV.
 * @throws ApiError when it gives none. */
export async function send(space: string, sql: string, accept: string): Promise<Response> {
  let answer: Response;
  try {
    const body = JSON.stringify({ sql, team: teamOf(space) });
    answer = await fetch(`/api/v1/spaces/${space}/query`, { method: "POST", headers: { "Content-Type": "application/json", Accept: accept }, body });
  } catch {
    throw new ApiError(0, "network", "");
  }
  if (answer.ok) return answer;
  const said = (await answer.json().catch(() => ({ code: "internal", detail: "" }))) as { code: string; detail: string };
  if (answer.status === 401) window.dispatchEvent(new CustomEvent("cloister:signed-out"));
  throw new ApiError(answer.status, said.code, said.detail);
}

export async function ask(space: string, sql: string): Promise<{ rows: Row[]; cached: boolean }> {
  const answer = await send(space, sql, "application/json");
  const found = (await answer.json()) as { columns: (string | { name: string })[]; rows: unknown[][] };
  const names = found.columns.map((column) => (typeof column === "string" ? column : column.name));
  return { rows: found.rows.map((row) => Object.fromEntries(names.map((name, index) => [name, row[index]]))), cached: answer.headers.get("Cloister-Cached") === "yes" };
}

/** A cell as people read it. */
export function shown(value: unknown): string {
  if (typeof value === "number") return value.toLocaleString(undefined, { maximumFractionDigits: 6 });
  return value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value);
}
