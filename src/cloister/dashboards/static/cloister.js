// What widgets use: cloister.data, cloister.config, cloister.onDataChanged(f), cloister.onConfigChanged(f).
// The page that shows this frame hears of it once, at the platform's own origins and no other; all else goes through
// the channel that is handed over then.
(() => {
  "use strict";
  const HOMES = ["__HOME__", "__SHARES__"];
  const shown = location.ancestorOrigins?.[0]; // not every browser says which of the two it is
  const heard = { data: [], config: [] };
  const state = { data: null, config: {} };
  const change = (what, value) => {
    state[what] = value;
    for (const f of heard[what]) f(value);
  };
  let said = false;
  const listen = (what) => (f) => {
    heard[what].push(f);
    if (said) f(state[what]);
  };
  const hear = (port) => ({ data: message }) => {
    if ("ping" in message) return port.postMessage({ pong: message.ping });
    said = true;
    if ("config" in message) change("config", message.config);
    if ("data" in message) change("data", message.data);
  };
  const api = Object.freeze({
    get data() { return state.data; },
    get config() { return state.config; },
    onDataChanged: listen("data"),
    onConfigChanged: listen("config"),
  });
  // What goes wrong in here is told to the page, which shows it to whoever builds: there is no console to look at.
  const ports = [];
  let told = 0;
  const tell = (text) => {
    if ((told += 1) <= 20) for (const port of ports) port.postMessage({ error: String(text).slice(0, 500) });
  };
  addEventListener("error", (event) => event.message && tell(`${event.message} (${(event.filename || "").split("/").pop()}:${event.lineno})`));
  addEventListener("unhandledrejection", (event) => tell(event.reason?.message ?? event.reason));
  document.addEventListener("securitypolicyviolation", (event) => tell(`blocked: ${event.effectiveDirective} ${event.blockedURI}`));
  for (const name of ["cloister", "visualbox"]) Object.defineProperty(window, name, { value: api });
  for (const home of HOMES.includes(shown) ? [shown] : HOMES) {
    const { port1: port, port2: theirs } = new MessageChannel();
    port.onmessage = hear(port);
    ports.push(port);
    parent.postMessage({ cloister: 1 }, home, [theirs]);
  }
})();
