// Asking and waiting, the same way on every page: what is loading, what came, what went wrong.
import { onScopeDispose, ref, shallowRef, type Ref, type ShallowRef } from "vue";
import { ApiError } from "../api/client";

export interface Loaded<T> {
  data: ShallowRef<T | null>;
  error: Ref<ApiError | null>;
  busy: Ref<boolean>;
  load: () => Promise<void>;
  /** What is known without asking, such as the answer to what was done just now: no earlier question's answer takes its place. */
  put: (known: T) => void;
}

const AGAIN = 4000;

/** Whether the platform was not there, as opposed to refusing. */
export const unreached = (fault: ApiError | null): boolean => fault !== null && (fault.status === 0 || (fault.status >= 502 && fault.status <= 504 && ["", "internal", "unavailable", "network"].includes(fault.code)));

/** Do something again and again, and at once when the network comes back. */
export function useAgain(act: () => void): void {
  const timer = setInterval(() => document.hidden || act(), AGAIN);
  addEventListener("online", act);
  onScopeDispose(() => {
    clearInterval(timer);
    removeEventListener("online", act);
  });
}

/** Load something now, and again when asked, or every so many milliseconds while the page is seen. */
export function useLoad<T>(ask: () => Promise<T>, every = 0): Loaded<T> {
  const data = shallowRef<T | null>(null);
  const error = ref<ApiError | null>(null);
  const busy = ref(false);

  let asked = 0;
  let newest = Promise.resolve();
  const load = (): Promise<void> => (newest = turn((asked += 1)));
  /** An answer that is overtaken by a later question is not shown: it may be older than what was done meanwhile. */
  async function turn(mine: number): Promise<void> {
    busy.value = true;
    try {
      const found = await ask();
      if (mine !== asked) return await newest;
      data.value = found;
      error.value = null;
    } catch (fault) {
      if (!(fault instanceof ApiError)) throw fault;
      if (mine !== asked) return await newest;
      error.value = Object.assign(fault, { again: load, repeats: true });
    } finally {
      if (mine === asked) busy.value = false;
    }
  }

  function put(known: T): void {
    asked += 1;
    newest = Promise.resolve();
    data.value = known;
    error.value = null;
    busy.value = false;
  }

  void load();
  useAgain(() => unreached(error.value) && !busy.value && void load());
  if (every > 0) {
    const timer = setInterval(() => document.hidden || busy.value || void load(), every);
    onScopeDispose(() => clearInterval(timer));
  }
  return { data, error, busy, load, put };
}

/** Do something once at a time; what went wrong is kept for the page to show. */
export function useAction<A extends unknown[], R>(act: (...given: A) => Promise<R>) {
  const error = ref<ApiError | null>(null);
  const busy = ref(false);

  async function run(...given: A): Promise<R | undefined> {
    if (busy.value) return undefined;
    busy.value = true;
    error.value = null;
    try {
      return await act(...given);
    } catch (fault) {
      if (!(fault instanceof ApiError)) throw fault;
      error.value = Object.assign(fault, { again: () => run(...given) });
      return undefined;
    } finally {
      busy.value = false;
    }
  }
  return { run, error, busy };
}
