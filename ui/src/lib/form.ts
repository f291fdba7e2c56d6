// Forms that people fill in.
import type { Schemas } from "../api/client";

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- a field's component says what its answer is
export type Answers = Record<string, any>;

/** The names of the questions that need an answer and have none. A checkbox may stay empty; a consent may not. */
export function unanswered(fields: Schemas["FormField"][], answers: Answers): string[] {
  return fields.filter((field) => field.required !== false && field.type !== "checkbox" && !answers[field.name]).map((field) => field.name);
}

/** A name as it can be part of an address: small letters, digits and hyphens. */
export function slug(text: string): string {
  return text.trim().toLowerCase().normalize("NFKD").replace(/[\u0300-\u036f]/g, "").replace(/[^a-z0-9]+/g, "-").replace(/^[^a-z]+|-+$/g, "").slice(0, 40);
}
