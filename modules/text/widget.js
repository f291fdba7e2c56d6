"use strict";
function draw() {
  const { data, config } = cloister;
  const value = data == null ? "" : typeof data === "object" ? JSON.stringify(data) : String(data);
  document.querySelector("h1").textContent = config.heading || "";
  const paragraph = document.querySelector("p");
  paragraph.textContent = (config.text ?? "{}").replaceAll("{}", value);
  paragraph.style.fontSize = `${config.size || 16}px`;
}
cloister.onDataChanged(draw);
cloister.onConfigChanged(draw);
