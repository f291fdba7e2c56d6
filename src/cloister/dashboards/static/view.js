// Shows a shared dashboard: widgets in sealed frames, fed through channels; one WebSocket brings what is new.
"use strict";
const API = "/api/v1";
const SHARE = location.pathname.match(/\/view\/([^/]+)\/view\.html$/)?.[1] ?? null;
const frames = new Map(); // window of a frame → what it shows
const widgets = new Map(); // id → the same
const german = navigator.language.startsWith("de");
const t = (english, deutsch) => (german ? deutsch : english);
document.documentElement.lang = german ? "de" : "en";
const SILENT = t("This widget does not answer.", "Dieses Widget antwortet nicht.");
let wait = 500;
let ended = false;

const word = (text) => (document.getElementById("word").textContent = text);

async function view(passphrase) {
  const token = location.hash.slice(1);
  if (!token) throw Object.assign(new Error(t("This link is not whole: what stands after its # is missing.", "Dieser Link ist unvollständig: Es fehlt, was hinter # steht.")), { code: "share.not_found", status: 404 });
  const answer = await fetch(`${API}/shares/view`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token, share: SHARE, again: drawn !== "", passphrase: passphrase || null, values: choices() }),
  });
  const said = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(said.detail || t("This did not work.", "Das hat nicht geklappt.")), { code: said.code, status: answer.status });
  return said;
}

// What whoever looks has chosen stands in the address, so that it can be kept and passed on.
function choices() {
  const found = {};
  for (const [id, text] of new URLSearchParams(location.search)) {
    try {
      found[id] = JSON.parse(text);
    } catch {
      found[id] = text;
    }
  }
  return found;
}

function control(one) {
  const field = document.createElement(one.type === "select" ? "select" : "input");
  if (one.type === "select") {
    for (const { label, value } of one.options) field.add(new Option(label, JSON.stringify(value), false, value === one.value));
  } else {
    field.type = { switch: "checkbox", slider: "number", color: "color", date: "date" }[one.type] || "text";
    if (one.type === "switch") field.checked = Boolean(one.value);
    else field.value = one.value ?? "";
    if (one.type === "slider") Object.assign(field, { min: one.min, max: one.max, step: one.step ?? "any" });
  }
  return field;
}

function chosen(one, field) {
  if (one.type === "switch") return field.checked;
  if (one.type === "slider") return field.valueAsNumber;
  return one.type === "select" ? JSON.parse(field.value) : field.value;
}

function offer(variables) {
  const form = document.getElementById("choices");
  form.hidden = !variables.length;
  form.replaceChildren(
    ...variables.map((one) => {
      const field = control(one);
      const label = document.createElement("label");
      label.append(one.label, field);
      field.addEventListener("change", () => {
        if (!field.checkValidity()) return field.reportValidity();
        const search = new URLSearchParams(location.search);
        search.set(one.id, JSON.stringify(chosen(one, field)));
        history.replaceState(null, "", `?${search}${location.hash}`);
        word(t("One moment …", "Einen Moment …"));
        wait = 50;
        if (ended || !current) again();
        else current.close(); // another is asked for, with what is chosen now
        ended = false;
        return undefined;
      });
      return label;
    }),
  );
  form.onsubmit = (event) => event.preventDefault();
}

/** A background that somebody chose, and writing that can be read on it. */
function ground(color) {
  document.body.style.background = color || "";
  const parts = (color?.length < 6 ? color.slice(1).replace(/./g, "$&$&") : (color ?? "").slice(1)).match(/../g) ?? [];
  const [red, green, blue] = parts.map((part) => parseInt(part, 16));
  const dark = 0.299 * red + 0.587 * green + 0.114 * blue < 140;
  document.body.style.setProperty("--on", parts.length < 3 ? "" : dark ? "#fff" : "#16202b");
}

function draw(shown) {
  document.getElementById("name").textContent = document.title = shown.name;
  ground(shown.background);
  const grid = document.getElementById("grid");
  grid.replaceChildren();
  frames.clear();
  widgets.clear();
  for (const widget of [...shown.widgets].sort((one, other) => one.y - other.y || one.x - other.x)) { // as they are read
    const card = document.createElement("section");
    card.style.setProperty("--rows", widget.height);
    card.style.gridColumn = `${widget.x + 1} / span ${widget.width}`;
    card.style.gridRow = `${widget.y + 1} / span ${widget.height}`;
    const title = document.createElement("h2");
    if (widget.live) title.append(document.createElement("i"));
    title.append(widget.title);
    const note = document.createElement("p");
    card.append(title, note);
    const one = { ...widget, card, note, port: null, model: null, seq: 0, silent: 0 };
    widgets.set(widget.id, one);
    if (widget.frame) {
      const frame = document.createElement("iframe");
      frame.setAttribute("sandbox", "allow-scripts");
      frame.setAttribute("referrerpolicy", "no-referrer");
      frame.title = widget.title || "Widget";
      card.append(frame);
      grid.append(card);
      frames.set(frame.contentWindow, one);
      frame.src = widget.frame;
    } else {
      note.textContent = t("This widget was removed by its author.", "Dieses Widget wurde von seinem Autor entfernt.");
      grid.append(card);
    }
  }
}

window.addEventListener("message", (event) => {
  const one = frames.get(event.source);
  if (!one || one.port || !event.data || event.data.cloister !== 1 || event.ports.length !== 1) return;
  one.port = event.ports[0]; // once: a second is not listened to
  one.port.onmessage = () => {
    one.silent = 0;
    if (one.note.textContent === SILENT) one.note.textContent = "";
  };
  one.port.postMessage({ config: one.values, data: one.model });
});

// A widget in an endless loop stops itself, not this page: whoever looks is told.
setInterval(() => {
  for (const one of widgets.values()) {
    if (!one.port || document.hidden) continue;
    if (one.silent >= 2) one.note.textContent = SILENT;
    one.silent += 1;
    one.port.postMessage({ ping: 1 });
  }
}, 3000);

function patch(model, operations) {
  for (const { op, path, value } of operations) {
    if (path === "") {
      model = value;
      continue;
    }
    const parts = path.slice(1).split("/").map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
    const last = parts.pop();
    let at = model;
    for (const part of parts) at = at[part];
    if (Array.isArray(at)) {
      if (op === "add") at.splice(last === "-" ? at.length : Number(last), 0, value);
      else if (op === "remove") at.splice(Number(last), 1);
      else at[Number(last)] = value;
    } else if (op === "remove") delete at[last];
    else at[last] = value;
  }
  return model;
}

let key = null;
let session = null;

function takeBack(one) {
  one.model = null;
  one.seq = 0; // the same output may be told again
  one.session = null;
  one.card.className = "";
  one.port?.postMessage({ data: null });
}

async function hear(message) {
  if (message.type === "INIT") {
    ({ key, session } = message);
    wait = 500;
  }
  if ((message.type === "INIT" || message.type === "CHANGED") && message.version > version) return void redraw();
  if (message.type === "TERMINATE") {
    word(message.reason);
    for (const one of widgets.values()) takeBack(one); // it may have been the right to see them that ended
    ended = true;
    current?.close();
    setTimeout(comeBack, (wait = Math.min(Math.max(wait, 2500) * 2, 60000)));
    return;
  }
  const one = widgets.get(message.integration);
  if (!one) return;
  if (message.type === "OUTPUT") {
    if ("bytes" in message) {
      message = await fetched(message.integration); // a large one: it may be newer than what was said
      if (!message) return;
    } else if (message.seq <= one.seq && one.session === session) return; // it came with a large one
    if ("patch" in message && message.base !== one.seq) throw new Error("an output was missed"); // begins anew
    one.model = "patch" in message ? patch(structuredClone(one.model), message.patch) : message.model;
    one.seq = message.seq;
    one.session = session;
    if (one.port) one.port.postMessage({ data: one.model });
  } else if (message.type === "STATUS" && message.state) {
    one.card.className = message.state;
    one.note.textContent = message.reason;
  }
}

async function fetched(channel) {
  const answer = await fetch(`${API}/live/${session}/outputs/${channel}`, { headers: { "Live-Viewer": key } });
  return answer.ok ? answer.json() : null;
}

let current = null;
function follow(path) {
  const socket = current = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${API}${path}`);
  const tick = setInterval(() => socket.readyState === 1 && socket.send('{"type":"TICK"}'), 20000);
  socket.onopen = () => {
    word("");
  };
  let turn = Promise.resolve(); // one after the other, also when one has to be fetched
  socket.onmessage = (event) => (turn = turn.then(() => socket === current && hear(JSON.parse(event.data))).catch(() => socket.close()));
  socket.onclose = () => {
    clearInterval(tick);
    if (ended) return;
    if (wait > 50) word(t("The connection is gone; trying again …", "Die Verbindung ist weg; es wird erneut versucht …"));
    setTimeout(again, wait);
    wait = Math.min(wait * 2, 15000);
  };
}

// It was ended: for a pause, or since this page lay hidden for so long. Once somebody looks, it is asked for again.
function comeBack() {
  if (!ended) return;
  if (document.hidden) return void document.addEventListener("visibilitychange", comeBack, { once: true });
  ended = false;
  again();
}

let version = 0;
let soon = null;
/** It was changed: show that once nothing more has come for a moment, and not all who look at once. */
function redraw() {
  clearTimeout(soon);
  soon = setTimeout(() => {
    wait = 50;
    current?.close();
  }, 1500 + Math.random() * 1500);
}

document.querySelector("#ask label").firstChild.textContent = t("This link has a passphrase ", "Dieser Link hat ein Kennwort ");
document.querySelector("#ask button").textContent = t("Show", "Zeigen");
document.getElementById("choices").setAttribute("aria-label", t("Settings", "Einstellungen"));
let known = null;
let drawn = "";
async function again() {
  try {
    const shown = await view(known);
    const { live, variables, version: now, ...plan } = shown;
    version = now;
    if (JSON.stringify(plan) !== drawn) { // what was changed since is shown when this page comes back to it
      draw(shown);
      drawn = JSON.stringify(plan);
    }
    if (!document.activeElement?.closest("#choices")) offer(variables);
    follow(live.path);
  } catch (error) {
    if (error.code === "share.passphrase_needed") {
      word(known ? t("That is not the passphrase.", "Das ist nicht das Kennwort.") : "");
      document.getElementById("ask").hidden = false;
    } else {
      if (error.code) word(error.message);
      if (error.code) for (const one of widgets.values()) takeBack(one); // it may have been the right to see them that ended
      if ([403, 404, 410].includes(error.status)) {
        draw({ name: "", widgets: [] }); // nothing of it stays
        drawn = "nothing";
      }
      // What may be over soon is asked for again: a pause, too many at once, a platform that restarts.
      if (!error.code || error.status >= 429 || ["share.paused", "share.unavailable"].includes(error.code))
        setTimeout(again, (wait = Math.min(wait * 2, 15000)));
    }
  }
}

document.getElementById("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  known = new FormData(event.target).get("passphrase");
  event.target.hidden = true;
  again();
});
again();
