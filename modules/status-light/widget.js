"use strict";
const light = document.getElementById("light");
const word = document.getElementById("word");

function judge(data, config) {
  if (data == null) return ["#8c959f", "unknown"];
  if (typeof data === "number") {
    if (data >= Number(config.red)) return ["#cf222e", `red: ${data}`];
    return data >= Number(config.amber) ? ["#d4a72c", `amber: ${data}`] : ["#2da44e", `green: ${data}`];
  }
  const has = (list) => (list || "").split(",").some((part) => part.trim().toLowerCase() === String(data).toLowerCase());
  if (has(config.fair)) return ["#d4a72c", `amber: ${data}`];
  return has(config.good) ? ["#2da44e", `green: ${data}`] : ["#cf222e", `red: ${data}`];
}

function draw() {
  const [color, text] = judge(cloister.data, cloister.config);
  light.style.background = color;
  word.textContent = text;
}
cloister.onDataChanged(draw);
cloister.onConfigChanged(draw);
