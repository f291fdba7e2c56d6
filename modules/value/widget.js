"use strict";
const shown = document.getElementById("value");
const unit = document.getElementById("unit");

function draw() {
  const { data, config } = cloister;
  const digits = Number(config.decimals ?? 1);
  const text = typeof data === "number" ? data.toLocaleString(undefined, { maximumFractionDigits: digits })
    : data == null ? "–" : typeof data === "object" ? JSON.stringify(data) : String(data);
  shown.textContent = text;
  shown.style.color = config.color || "";
  shown.style.fontSize = `min(${Math.max(8, 110 / Math.max(4, text.length))}vw, 55vh)`;
  unit.textContent = config.unit || "";
}
cloister.onDataChanged(draw);
cloister.onConfigChanged(draw);
