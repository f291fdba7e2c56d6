"use strict";
const chart = echarts.init(document.getElementById("chart"), null, { renderer: "svg" });
addEventListener("resize", () => chart.resize());
const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
const line = getComputedStyle(document.documentElement).getPropertyValue("--line").trim();

// A table: a list of objects, an object of lists, or a list of numbers.
function rowsOf(data) {
  if (Array.isArray(data)) return data.map((row, index) => (row !== null && typeof row === "object" ? row : { index, value: row }));
  if (data && Array.isArray(data.rows)) return rowsOf(data.rows);
  if (data && typeof data === "object") {
    const lists = Object.entries(data).filter(([, value]) => Array.isArray(value));
    if (lists.length) return lists[0][1].map((_, index) => Object.fromEntries(lists.map(([name, list]) => [name, list[index]])));
    return Object.entries(data).map(([name, value]) => ({ name, value }));
  }
  return [];
}
const names = (text) => (text || "").split(",").map((part) => part.trim()).filter(Boolean);
function columnsOf(rows, config) {
  const all = rows.length ? Object.keys(rows[0]) : [];
  const x = config.x || all.find((name) => typeof rows[0][name] !== "number") || all[0];
  const y = names(config.y).length ? names(config.y) : all.filter((name) => name !== x && typeof rows[0][name] === "number").slice(0, 8);
  return { x, y };
}

const axis = { axisLabel: { color: ink, hideOverlap: true }, axisLine: { lineStyle: { color: line } }, splitLine: { lineStyle: { color: line } } };
function options(extra) {
  return {
    animation: false, textStyle: { color: ink }, tooltip: { trigger: "axis", confine: true }, legend: { textStyle: { color: ink }, type: "scroll" },
    grid: { left: 8, right: 16, top: 32, bottom: 8, containLabel: true }, ...extra,
  };
}

function cells(data, config) {
  if (Array.isArray(data) && data.every(Array.isArray)) {
    return data.flatMap((row, y) => row.map((value, x) => ({ x: String(x), y: String(y), value })));
  }
  return rowsOf(data).map((row) => ({ x: String(row[config.x || "x"]), y: String(row[config.y || "y"]), value: Number(row[config.value || "value"]) }));
}

function draw() {
  const { data, config } = cloister;
  const all = cells(data, config);
  const xs = [...new Set(all.map((cell) => cell.x))];
  const ys = [...new Set(all.map((cell) => cell.y))];
  const values = all.map((cell) => cell.value).filter(Number.isFinite);
  chart.setOption({
    animation: false, tooltip: { confine: true }, grid: { left: 8, right: 16, top: 8, bottom: 40, containLabel: true },
    xAxis: { type: "category", data: xs, ...axis }, yAxis: { type: "category", data: ys, ...axis },
    visualMap: { min: Math.min(0, ...values), max: Math.max(1, ...values), orient: "horizontal", left: "center", bottom: 0, itemHeight: 80,
      textStyle: { color: ink }, inRange: { color: ["#e8eef5", config.color || "#1f5fa8"] } },
    series: [{ type: "heatmap", data: all.map((cell) => [xs.indexOf(cell.x), ys.indexOf(cell.y), cell.value]) }],
  }, true);
}
cloister.onDataChanged(draw);
cloister.onConfigChanged(draw);
