// The typed client: made from our own OpenAPI document, so that a page cannot ask for what is not there.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];

/** What the API answers when it does not do what was asked; `detail` is a sentence for people. */
export class ApiError extends Error {
  /** Does again what was refused; whoever waits for it sets it. */
  again: (() => unknown) | null = null;
  /** Whether it is done again by itself until the platform is reached. */
  repeats = false;

  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    readonly errors: { field: string; message: string }[] = [],
    /** What is always said of this kind of fault; `message` may say more. */
    readonly title: string = "",
  ) {
    super(detail);
  }
}

export const api = createClient<paths>({ baseUrl: "", credentials: "same-origin" });

type Answer<T> = { data?: T; error?: unknown; response: Response };

/** The data of an answer.
 * @throws ApiError when it is none; status 0 when the platform could not be reached. */
export async function must<T>(asked: Promise<Answer<T>>): Promise<T> {
  return (await whole(asked)).data;
}

/** The same with the answer's headers.
 * @throws ApiError as `must` does. */
export async function whole<T>(asked: Promise<Answer<T>>): Promise<{ data: T; response: Response }> {
  let answer: Answer<T>;
  try {
    answer = await asked;
  } catch {
    throw new ApiError(0, "network", "");
  }
  if (answer.response.ok) return { data: answer.data as T, response: answer.response };
  const said = (answer.error ?? {}) as { code?: string; title?: string; detail?: string; errors?: { field: string; message: string }[] };
  const fault = new ApiError(answer.response.status, said.code ?? "internal", said.detail ?? "", said.errors, said.title);
  if (fault.status === 401) window.dispatchEvent(new CustomEvent("cloister:signed-out"));
  throw fault;
}
