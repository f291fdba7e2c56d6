// What widgets use: cloister.data, cloister.config, cloister.onDataChanged(f), cloister.onConfigChanged(f).
// The page that shows this frame hears of it once, at the platform's own origin and no other; all else goes through
// the channel that is handed over then.
(() => {
  "use strict";
  const HOME = "__HOME__";
  const heard = { data: [], config: [] };
  const state = { data: null, config: {} };
  const change = (what, value) => {
    state[what] = value;
    for (const f of heard[what]) f(value);
  };
  const listen = (what) => (f) => {
    heard[what].push(f);
    if (port.said) f(state[what]);
  };
  const { port1: port, port2: theirs } = new MessageChannel();
  port.onmessage = ({ data: message }) => {
    if ("ping" in message) return port.postMessage({ pong: message.ping });
    port.said = true;
    if ("config" in message) change("config", message.config);
    if ("data" in message) change("data", message.data);
  };
  const api = Object.freeze({
    get data() { return state.data; },
    get config() { return state.config; },
    onDataChanged: listen("data"),
    onConfigChanged: listen("config"),
  });
  for (const name of ["cloister", "visualbox"]) Object.defineProperty(window, name, { value: api });
  parent.postMessage({ cloister: 1 }, HOME, [theirs]);
})();
