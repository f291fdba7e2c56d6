// A dashboard being looked at and edited: its document, what it is made of, saving with a version, undo.
import { computed, ref, shallowRef } from "vue";
import { api, ApiError, must, type Schemas } from "../api/client";
import { unreached, useAgain } from "./load";

export type Document = Schemas["Document"];
export type Widget = Required<Pick<Schemas["Widget"], "id" | "module" | "x" | "y" | "width" | "height">> & Schemas["Widget"];
export type Source = Schemas["Integration"];
export const COLUMNS = 24;

type Spot = Pick<Widget, "id" | "x" | "y" | "width" | "height"> & { locked?: boolean };
const meets = (one: Spot, two: Spot) => one.x < two.x + two.width && two.x < one.x + one.width && one.y < two.y + two.height && two.y < one.y + one.height;

/** Widgets after one was moved or sized: what it met makes room downwards; it goes below what is locked itself. */
export function settled<T extends Spot>(all: T[], moved: string): T[] {
  const chosen = all.find((one) => one.id === moved);
  if (!chosen) return all;
  const placed: T[] = all.filter((one) => one.locked && one.id !== moved);
  const rest = all.filter((one) => !one.locked && one.id !== moved).sort((a, b) => a.y - b.y || a.x - b.x);
  for (const one of [chosen, ...rest]) {
    let spot = one;
    for (let hit = placed.find((other) => meets(spot, other)); hit; hit = placed.find((other) => meets(spot, other))) spot = { ...spot, y: hit.y + hit.height };
    placed.push(spot);
  }
  return all.map((one) => placed.find((spot) => spot.id === one.id) as T);
}

export function useBoard(space: string, dashboard: string) {
  const path = { params: { path: { space, dashboard } } };
  const document = shallowRef<Document | null>(null);
  const team = ref("");
  const version = ref(0);
  const parts = shallowRef<Record<string, Schemas["PartOut"]>>({});
  const error = ref<ApiError | null>(null);
  const conflict = ref(false);
  const saving = ref(false);
  const past = shallowRef<Document[]>([]);
  const undone = shallowRef<Document[]>([]);
  let waiting: Document | null = null;
  let newest = 0; // the highest version that was heard of

  async function guarded(act: () => Promise<void>): Promise<void> {
    try {
      error.value = null;
      await act();
    } catch (fault) {
      if (!(fault instanceof ApiError)) throw fault;
      error.value = Object.assign(fault, { again: () => guarded(act) });
    }
  }
  async function read(): Promise<void> {
    const row = await must(api.GET("/api/v1/spaces/{space}/dashboards/{dashboard}", path));
    document.value = row.document as unknown as Document;
    version.value = row.version;
    team.value = row.team;
    await readParts();
  }
  async function readParts(): Promise<void> {
    const found = await must(api.GET("/api/v1/spaces/{space}/dashboards/{dashboard}/parts", path));
    parts.value = Object.fromEntries(found.items.map((part) => [part.id, part]));
  }

  /** Show a change at once, and save it; changes that come meanwhile are saved together afterwards. */
  async function change(next: Document, remember = true): Promise<void> {
    if (document.value && remember) {
      past.value = [...past.value.slice(-49), document.value];
      undone.value = [];
    }
    const before = past.value;
    document.value = next;
    waiting = next;
    if (saving.value) return;
    saving.value = true;
    try {
      while (waiting) {
        const sent: Document = waiting;
        const headers = { "If-Match": `"${version.value}"` };
        const saved = await must(api.PUT("/api/v1/spaces/{space}/dashboards/{dashboard}", { params: { ...path.params, header: headers as never }, body: sent, headers }));
        version.value = saved.version;
        if (waiting === sent) waiting = null;
        if (!waiting) document.value = saved.document as unknown as Document;
        error.value = null;
        if (!waiting) await readParts(); // what is changed meanwhile waits, and is saved next
      }
    } catch (fault) {
      if (!(fault instanceof ApiError)) throw fault;
      if (unreached(fault)) {
        error.value = Object.assign(fault, { again, repeats: true }); // what waits is saved when the platform is there again
        return;
      }
      if (fault.status === 401 || fault.status === 429 || fault.status >= 500) {
        error.value = Object.assign(fault, { again }); // what waits is not lost: it is saved when that is over
        return;
      }
      waiting = null;
      if (fault.status === 412) {
        conflict.value = true;
        past.value = [];
        undone.value = [];
        await guarded(read);
      } else {
        if (remember && past.value === before) past.value = before.slice(0, -1); // there is nothing to undo
        await guarded(read); // it was refused: what is shown is what there is
        error.value = fault;
      }
    } finally {
      saving.value = false;
      void changed(newest);
    }
  }
  /** Somebody else has changed it: show that, unless something of one's own is on its way and meets it there. */
  async function changed(now: number): Promise<void> {
    newest = Math.max(newest, now);
    if (newest <= version.value || saving.value || waiting || !document.value) return; // heard again when that is saved
    past.value = []; // going back to what was before would take away what they did
    undone.value = [];
    await guarded(read);
  }
  /** After a fault: save what could not be saved, or look again. */
  async function again(): Promise<void> {
    if (waiting) await change(waiting, false);
    else await guarded(read);
  }
  useAgain(() => unreached(error.value) && !saving.value && void again());
  /** Whether something that was changed is not kept yet, or could not be. */
  const unsaved = () => waiting !== null || saving.value;
  async function undo(): Promise<void> {
    const before = past.value.at(-1);
    if (!before) return;
    past.value = past.value.slice(0, -1);
    if (document.value) undone.value = [...undone.value, document.value];
    await change(before, false);
  }
  async function redo(): Promise<void> {
    const next = undone.value.at(-1);
    if (!next) return;
    undone.value = undone.value.slice(0, -1);
    if (document.value) past.value = [...past.value, document.value];
    await change(next, false);
  }

  const widgets = computed(() => (document.value?.widgets ?? []) as Widget[]);
  const sources = computed(() => document.value?.integrations ?? []);
  const patchWidget = (id: string, more: Partial<Widget>) => change({ ...(document.value as Document), widgets: widgets.value.map((one) => (one.id === id ? { ...one, ...more } : one)) });
  const moveWidget = (id: string, at: Pick<Widget, "x" | "y" | "width" | "height">) => change({ ...(document.value as Document), widgets: settled(widgets.value.map((one) => (one.id === id ? { ...one, ...at } : one)), id) });
  const patchSource = (id: string, more: Partial<Source>) => change({ ...(document.value as Document), integrations: sources.value.map((one) => (one.id === id ? { ...one, ...more } : one)) });
  /** An id that says nothing: visitors of a share see those of widgets. */
  const freshId = (kind: "source" | "widget") => {
    const taken = new Set([...widgets.value, ...sources.value].map((one) => one.id));
    let n = 1;
    while (taken.has(`${kind}-${n}`)) n += 1;
    return `${kind}-${n}`;
  };
  /** The first free place of a size, from the top. */
  function place(width: number, height: number): { x: number; y: number } {
    for (let y = 0; ; y += 1) {
      for (let x = 0; x + width <= COLUMNS; x += 1) {
        if (widgets.value.every((one) => x + width <= one.x || one.x + one.width <= x || y + height <= one.y || one.y + one.height <= y)) return { x, y };
      }
    }
  }
  void guarded(read);
  return { unsaved, document, team, version, parts, error, conflict, saving, past, undone, widgets, sources, change, changed, undo, redo, patchWidget, moveWidget, patchSource, freshId, place, again };
}
