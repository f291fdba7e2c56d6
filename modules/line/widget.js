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
    animation: false, textStyle: { color: ink }, tooltip: { trigger: "axis", confine: true }, legend: { textStyle: { color: ink }, type: "scroll", top: 0, bottom: "auto" },
    grid: { left: 24, right: 16, top: 32, bottom: 10, containLabel: true }, ...extra,
  };
}

const history = [];

function draw() {
  const { data, config } = cloister;
  let rows = rowsOf(data);
  if (typeof data === "number") rows = history;
  const { x, y } = columnsOf(rows, config);
  const area = config.area ? { opacity: 0.2 } : undefined;
  chart.setOption(options({
    xAxis: { type: "category", data: rows.map((row) => row[x]), boundaryGap: false, ...axis },
    yAxis: { type: "value", scale: true, ...axis },
    series: y.map((name) => ({ name, type: "line", showSymbol: false, areaStyle: area, data: rows.map((row) => row[name] ?? null) })),
  }), true);
}
cloister.onDataChanged((data) => {
  if (typeof data === "number") {
    history.push({ time: new Date().toLocaleTimeString(), value: data });
    history.splice(0, Math.max(0, history.length - Number(cloister.config.history || 120)));
  }
  draw();
});
cloister.onConfigChanged(draw);
