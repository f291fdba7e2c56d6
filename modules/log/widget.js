"use strict";
const list = document.getElementById("log");
let before;

cloister.onDataChanged((data) => {
  const text = typeof data === "object" ? JSON.stringify(data) : String(data);
  if (data == null || text === before) return;
  before = text;
  const line = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = new Date().toLocaleTimeString();
  line.append(time, ` ${text}`);
  list.prepend(line);
  while (list.children.length > Number(cloister.config.lines || 200)) list.lastChild.remove();
});
