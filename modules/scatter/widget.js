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
    grid: { left: 8, right: 16, top: 32, bottom: 10, containLabel: true }, ...extra,
  };
}

function draw() {
  const { data, config } = cloister;
  const rows = rowsOf(data);
  const numbers = rows.length ? Object.keys(rows[0]).filter((name) => typeof rows[0][name] === "number") : [];
  const x = config.x || numbers[0];
  const y = config.y || numbers[1] || numbers[0];
  const groups = new Map();
  for (const row of rows) {
    const group = config.group ? String(row[config.group]) : y || "";
    groups.set(group, [...(groups.get(group) || []), [row[x], row[y]]]);
  }
  chart.setOption({
    ...options({
      xAxis: { type: "value", scale: true, name: x, nameLocation: "middle", nameGap: 26, ...axis },
      yAxis: { type: "value", scale: true, name: y, ...axis },
      series: [...groups].map(([name, points]) => ({ name, type: "scatter", symbolSize: Number(config.size || 8), data: points })),
    }),
    tooltip: { trigger: "item", confine: true },
    grid: { left: 12, right: 20, top: 40, bottom: 30, containLabel: true },
  }, true);
}
cloister.onDataChanged(draw);
cloister.onConfigChanged(draw);
