// The files of a module's draft as they are edited: what is here, what is saved, what is open.
import { computed, reactive, ref } from "vue";
import { api, must } from "../api/client";
import { useAction, useLoad } from "./load";

export interface Hit {
  file: string;
  line: number;
  text: string;
}

const FIRST = ["main.py", "index.js", "main.go", "widget.js", "index.html"];
const MOST_HITS = 200;

/** Where words stand in files, by line. A field that was cleared has none. */
export function hitsIn(texts: Record<string, string>, words: string | null): Hit[] {
  const wanted = (words ?? "").trim().toLowerCase();
  if (wanted.length < 2) return [];
  const found: Hit[] = [];
  for (const file of Object.keys(texts).sort())
    for (const [index, text] of (texts[file] ?? "").split("\n").entries())
      if (found.length < MOST_HITS && text.toLowerCase().includes(wanted)) found.push({ file, line: index + 1, text: text.trim().slice(0, 120) });
  return found;
}

export function useDraft(name: string) {
  const path = { params: { path: { name } } };
  const at = (file: string) => ({ path: { name, path: file } });
  const texts = reactive<Record<string, string>>({});
  const kept = reactive<Record<string, string>>({});
  const tags: Record<string, string> = {};
  /** Files that are no text, such as a picture: they are here, and cannot be written in. */
  const others = ref<string[]>([]);
  const opened = ref<string[]>([]);
  const current = ref("");
  const dirty = computed(() => Object.keys(texts).filter((one) => texts[one] !== kept[one]));

  function open(file: string): void {
    if (!opened.value.includes(file)) opened.value = [...opened.value, file];
    current.value = file;
  }
  function close(file: string): void {
    const place = opened.value.indexOf(file);
    opened.value = opened.value.filter((one) => one !== file);
    if (current.value === file) current.value = opened.value[Math.max(0, place - 1)] ?? "";
  }
  const loaded = useLoad(async () => {
    const files = await must(api.GET("/api/v1/modules/{name}/files", path));
    for (const file of files.items) {
      tags[file.path] = file.etag;
      if (file.text === null) continue;
      if (!(file.path in texts) || texts[file.path] === kept[file.path]) texts[file.path] = file.text; // else it is being written in
      kept[file.path] = file.text;
    }
    others.value = files.items.filter((file) => file.text === null).map((file) => file.path);
    const first = FIRST.find((one) => one in texts) ?? Object.keys(texts)[0];
    if (!current.value && first) open(first);
    return files;
  });
  /** Each file only if it is as it was when it was read: what was changed elsewhere is not overwritten. */
  const save = useAction(async () => {
    for (const file of dirty.value) {
      const text = texts[file] as string;
      const headers: Record<string, string> = tags[file] ? { "If-Match": tags[file] } : {};
      const put = await must(api.PUT("/api/v1/modules/{name}/files/{path}", { params: { ...at(file), header: headers as never }, headers, body: { text } }));
      kept[file] = text;
      tags[file] = put.etag;
    }
  });
  const drop = useAction(async (file: string) => {
    if (file in tags) await must(api.DELETE("/api/v1/modules/{name}/files/{path}", { params: at(file) }));
    for (const all of [texts, kept, tags]) delete all[file];
    others.value = others.value.filter((one) => one !== file);
    close(file);
  });
  function create(file: string): void {
    if (!file.trim() || file in texts) return;
    texts[file] = "";
    open(file);
  }
  /** What is on the server takes the place of what is here. */
  async function refresh(): Promise<void> {
    for (const file of Object.keys(texts)) for (const all of [texts, kept, tags]) delete all[file];
    opened.value = [];
    current.value = "";
    await loaded.load();
  }
  /** Files of this computer; a ZIP file takes the place of all. */
  const upload = useAction(async (files: File[]) => {
    for (const file of files) {
      if (file.name.endsWith(".zip")) {
        await must(api.PUT("/api/v1/modules/{name}/archive", { ...path, body: file as never, bodySerializer: (body: unknown) => body as Blob, headers: { "Content-Type": "application/zip" } } as never));
        continue;
      }
      const bytes = new Uint8Array(await file.arrayBuffer());
      const base64 = btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
      await must(api.PUT("/api/v1/modules/{name}/files/{path}", { params: at(file.name), body: { base64 } }));
    }
    await refresh();
  });
  return { texts, others, opened, current, dirty, loaded, save, drop, upload, open, close, create, refresh };
}
