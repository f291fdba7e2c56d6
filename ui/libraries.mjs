// Copies what widgets may load from the pinned packages to where the platform serves it.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";

const to = new URL("../src/cloister/dashboards/static/lib/", import.meta.url);
const from = (path) => new URL(`node_modules/${path}`, import.meta.url);
mkdirSync(to, { recursive: true });
for (const [name, path] of Object.entries({
  "echarts.js": "echarts/dist/echarts.min.js",
  "d3.js": "d3/dist/d3.min.js",
  "leaflet.js": "leaflet/dist/leaflet.js",
  "leaflet.css": "leaflet/dist/leaflet.css",
  "three.js": "three/build/three.module.js",
  "three.core.js": "three/build/three.core.js",
  "topojson.js": "topojson-client/dist/topojson-client.min.js",
})) copyFileSync(from(path), new URL(name, to));
writeFileSync(new URL("world.js", to), `window.WORLD = ${readFileSync(from("world-atlas/countries-110m.json"), "utf8")};\n`);
