// A live session: one WebSocket, models that are patched as they change, and a connection that comes back by itself.
import { onScopeDispose, reactive, ref, shallowReactive } from "vue";

export interface Operation {
  op: string;
  path: string;
  value?: unknown;
}

export interface Line {
  key: number;
  integration: string;
  level: string;
  text: string;
}

export const MOST_LINES = 500;

/** A model after some operations of a JSON Patch (RFC 6902). */
export function patched(model: unknown, operations: Operation[]): unknown {
  let root = structuredClone(model);
  for (const { op, path, value } of operations) {
    if (path === "") {
      root = value;
      continue;
    }
    const parts = path.slice(1).split("/").map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
    const last = parts.pop() as string;
    let at = root as Record<string, unknown>;
    for (const part of parts) at = at[part] as Record<string, unknown>;
    if (Array.isArray(at)) {
      if (op === "add") at.splice(last === "-" ? at.length : Number(last), 0, value);
      else if (op === "remove") at.splice(Number(last), 1);
      else at[Number(last)] = value;
    } else if (op === "remove") delete at[last];
    else at[last] = value;
  }
  return root;
}

/** `changed` hears which version of the dashboard there is, at first and whenever somebody changes it. */
export function useLive(ticket: () => Promise<string>, changed: (version: number) => void = () => {}) {
  const models = shallowReactive(new Map<string, unknown>());
  const states = reactive(new Map<string, { state: string; reason: string }>());
  const lines = reactive<Line[]>([]);
  const connected = ref(false);
  const ended = ref("");
  let socket: WebSocket | null = null;
  let wait = 500;
  let key = 0;
  let closed = false;
  let again: ReturnType<typeof setTimeout> | undefined;

  let session = "";
  let viewer = "";
  const seqs = new Map<string, number>();

  /** A large output, which may be newer than what was said. */
  async function fetched(channel: string): Promise<Record<string, unknown> | null> {
    const answer = await fetch(`/api/v1/live/${session}/outputs/${channel}`, { headers: { "Live-Viewer": viewer } });
    return answer.ok ? await answer.json() : null;
  }

  async function hear(said: Record<string, unknown>): Promise<void> {
    const id = said.integration as string;
    let message = said;
    if (message.type === "INIT") {
      session = message.session as string;
      viewer = message.key as string;
      seqs.clear();
      changed(message.version as number);
    } else if (message.type === "CHANGED") {
      changed(message.version as number);
    } else if (message.type === "OUTPUT") {
      if ("bytes" in message) {
        const whole = await fetched(id);
        if (whole === null) return;
        message = whole;
      } else if ((message.seq as number) <= (seqs.get(id) ?? 0)) return; // it came with a large one
      if ("patch" in message && message.base !== seqs.get(id)) return void socket?.close(); // one was missed: begin anew
      seqs.set(id, message.seq as number);
      models.set(id, "patch" in message ? patched(models.get(id), message.patch as Operation[]) : message.model);
    } else if (message.type === "STATUS" && message.state) {
      states.set(id, { state: message.state as string, reason: message.reason as string });
    } else if (message.type === "STATUS") {
      lines.push({ key: (key += 1), integration: id, level: message.level as string, text: message.text as string });
      if (lines.length > MOST_LINES) lines.splice(0, lines.length - MOST_LINES);
    } else if (message.type === "TERMINATE") ended.value = message.reason as string;
  }

  async function connect(): Promise<void> {
    if (closed) return;
    try {
      const path = await ticket();
      const scheme = location.protocol === "https:" ? "wss" : "ws";
      socket = new WebSocket(`${scheme}://${location.host}/api/v1${path}`);
    } catch {
      retry();
      return;
    }
    socket.onopen = () => {
      connected.value = true;
      ended.value = "";
      wait = 500;
    };
    let turn: Promise<unknown> = Promise.resolve(); // one after the other, also when one has to be fetched
    const mine = socket;
    socket.onmessage = (event: MessageEvent<string>) => {
      turn = turn.then(() => (mine === socket ? hear(JSON.parse(event.data)) : undefined)).catch(() => mine.close());
    };
    socket.onclose = () => {
      connected.value = false;
      retry();
    };
  }

  function retry(): void {
    if (closed) return;
    again = setTimeout(() => void connect(), wait);
    wait = Math.min(wait * 2, 15_000);
  }

  function say(message: object): void {
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  }

  const tick = setInterval(() => say({ type: "TICK" }), 20_000);
  onScopeDispose(() => {
    closed = true;
    clearInterval(tick);
    clearTimeout(again);
    socket?.close();
  });
  void connect();
  return { models, states, lines, connected, ended, restart: (integration: string) => say({ type: "RESTART", integration }) };
}

/** A node of a model by its path; undefined where there is none. */
export function nodeAt(model: unknown, path: (string | number)[]): unknown {
  let at = model;
  for (const part of path) {
    if (at === null || typeof at !== "object") return undefined;
    at = (at as Record<string | number, unknown>)[part];
  }
  return at;
}

/** What kind of widget a value suits: the words of a manifest's `accepts`. */
export function kindOf(value: unknown): "number" | "text" | "table" | "list" | "object" | "any" {
  if (typeof value === "number") return "number";
  if (typeof value === "string") return "text";
  if (Array.isArray(value)) return value.length > 0 && value.every((row) => row !== null && typeof row === "object" && !Array.isArray(row)) ? "table" : "list";
  return value !== null && typeof value === "object" ? "object" : "any";
}
