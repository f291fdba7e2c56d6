"use strict";
let order = { name: null, down: false };

function text(value) {
  if (typeof value === "number") return value.toLocaleString(undefined, { maximumFractionDigits: 4 });
  return value == null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
}

function draw() {
  const { data, config } = cloister;
  let rows = rowsOf(data);
  const columns = names(config.columns).length ? names(config.columns) : rows.length ? Object.keys(rows[0]) : [];
  if (order.name !== null) {
    const sign = order.down ? -1 : 1;
    rows = [...rows].sort((a, b) => (a[order.name] < b[order.name] ? -sign : a[order.name] > b[order.name] ? sign : 0));
  }
  const head = document.createElement("tr");
  for (const name of columns) {
    const cell = document.createElement("th");
    const button = document.createElement("button");
    button.textContent = name + (order.name === name ? (order.down ? " ▾" : " ▴") : "");
    button.onclick = () => {
      order = { name, down: order.name === name && !order.down };
      draw();
    };
    cell.append(button);
    head.append(cell);
  }
  document.querySelector("thead").replaceChildren(head);
  document.querySelector("tbody").replaceChildren(...rows.slice(0, Number(config.rows || 100)).map((row) => {
    const line = document.createElement("tr");
    for (const name of columns) {
      const cell = document.createElement("td");
      cell.textContent = text(row[name]);
      cell.className = typeof row[name] === "number" ? "number" : "";
      line.append(cell);
    }
    return line;
  }));
}
cloister.onDataChanged(draw);
cloister.onConfigChanged(draw);
