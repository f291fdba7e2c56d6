// Lists that come in pages: the first at once, more when asked for.
import { ref, shallowRef } from "vue";
import { ApiError } from "../api/client";

/** All items of a list, page after page. */
export async function everyPage<T>(ask: (cursor: string | undefined) => Promise<{ items: T[]; next_cursor: string | null }>): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | undefined;
  do {
    const page = await ask(cursor);
    items.push(...page.items);
    cursor = page.next_cursor ?? undefined;
  } while (cursor !== undefined);
  return items;
}

export function usePages<T>(ask: (cursor: string | undefined) => Promise<{ items: T[]; next_cursor: string | null }>) {
  const items = shallowRef<T[]>([]);
  const next = ref<string | null>(null);
  const error = ref<ApiError | null>(null);
  const busy = ref(false);
  const ready = ref(false);

  let asked = 0; // an answer that is overtaken by a later question is not shown
  async function load(more = false): Promise<void> {
    const turn = (asked += 1);
    busy.value = true;
    try {
      const page = await ask(more ? (next.value ?? undefined) : undefined);
      if (turn !== asked) return;
      items.value = more ? [...items.value, ...page.items] : page.items;
      next.value = page.next_cursor;
      error.value = null;
      ready.value = true;
    } catch (fault) {
      if (!(fault instanceof ApiError)) throw fault;
      if (turn === asked && !more && fault.status >= 400 && fault.status < 500) items.value = []; // what is shown would be no answer to this
      if (turn === asked) error.value = Object.assign(fault, { again: () => load(more) });
    } finally {
      if (turn === asked) busy.value = false;
    }
  }
  void load();
  return { items, next, error, busy, ready, load };
}
