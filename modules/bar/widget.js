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

function draw() {
  const { data, config } = cloister;
  const rows = rowsOf(data);
  const { x, y } = columnsOf(rows, config);
  const labels = { type: "category", data: rows.map((row) => row[x]), ...axis };
  const lengths = { type: "value", ...axis };
  chart.setOption(options({
    xAxis: config.across ? lengths : labels,
    yAxis: config.across ? labels : lengths,
    series: y.map((name) => ({ name, type: "bar", stack: config.stack ? "all" : undefined, data: rows.map((row) => row[name] ?? null) })),
  }), true);
}
cloister.onDataChanged(draw);
cloister.onConfigChanged(draw);
