// Stations that do not exist: smooth noise that looks like weather.
"use strict";
const cloister = require("cloister");

const PLACES = [["Tromsø", 69.65, 18.96], ["Nuuk", 64.18, -51.72], ["Lisbon", 38.72, -9.14], ["Nairobi", -1.29, 36.82],
  ["Hobart", -42.88, 147.33], ["Quito", -0.18, -78.47], ["Sapporo", 43.06, 141.35], ["Halifax", 44.65, -63.58]];
const { stations, seconds } = cloister.MODEL;
const began = Date.now();

function wave(phase, period, height) {
  return height * Math.sin(((Date.now() - began) / 1000 / period + phase) * 2 * Math.PI) + (Math.random() - 0.5) * height * 0.1;
}

function model() {
  const all = Array.from({ length: Number(stations) }, (_, index) => {
    const [place, latitude, longitude] = PLACES[index % PLACES.length];
    const round = (value) => Math.round(value * 10) / 10;
    return {
      name: `station ${index + 1}`, place, latitude, longitude,
      temperature: round(20 - Math.abs(latitude) / 4 + wave(index / 7, 120, 4)),
      humidity: round(60 + wave(index / 5, 90, 20)),
      wind: round(Math.abs(8 + wave(index / 3, 45, 7))),
    };
  });
  const mean = (name) => Math.round((all.reduce((sum, one) => sum + one[name], 0) / all.length) * 10) / 10;
  return {
    at: new Date().toISOString(),
    stations: all,
    mean: { temperature: mean("temperature"), humidity: mean("humidity"), wind: mean("wind") },
    orientation: { roll: wave(0, 11, 25), pitch: wave(0.3, 17, 15), yaw: ((Date.now() - began) / 100) % 360 },
  };
}

cloister.output(model());
setInterval(() => cloister.output(model()), Number(seconds) * 1000);
