// For widgets: one chart in the page's colours that fills `#chart`. Needs `echarts.js` before it.
"use strict";
const chart = echarts.init(document.getElementById("chart"), null, { renderer: "svg" });
addEventListener("resize", () => chart.resize());
const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
const line = getComputedStyle(document.documentElement).getPropertyValue("--line").trim();

const axis = { axisLabel: { color: ink, hideOverlap: true }, axisLine: { lineStyle: { color: line } }, splitLine: { lineStyle: { color: line } } };
function options(extra) {
  return {
    animation: false, textStyle: { color: ink }, tooltip: { trigger: "axis", confine: true }, legend: { textStyle: { color: ink }, type: "scroll", top: 0, bottom: "auto" },
    grid: { left: 24, right: 16, top: 32, bottom: 10, containLabel: true }, ...extra,
  };
}
