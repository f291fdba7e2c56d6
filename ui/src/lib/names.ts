// What people of a space are called, for those who manage it: elsewhere people are numbers.
import { reactive } from "vue";
import { api, ApiError, must } from "../api/client";

const MOST = 100;

export function useNames(space: string) {
  const known = reactive(new Map<string, string>());
  let refused = false;

  /** Look up those who are not known yet. */
  async function want(persons: (string | null | undefined)[]): Promise<void> {
    const missing = [...new Set(persons)].filter((one): one is string => Boolean(one) && !known.has(one as string));
    for (let at = 0; at < missing.length && !refused; at += MOST) {
      const some = missing.slice(at, at + MOST);
      for (const one of some) known.set(one, "");
      try {
        const found = await must(api.GET("/api/v1/spaces/{space}/names", { params: { path: { space }, query: { person: some } } }));
        for (const one of found.items) known.set(one.person, one.name);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        refused = true; // numbers do, where names are not for whoever looks
      }
    }
  }
  return { of: (person: string) => known.get(person) ?? "", want };
}
