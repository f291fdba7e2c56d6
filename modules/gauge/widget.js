"use strict";
const chart = echarts.init(document.getElementById("chart"), null, { renderer: "svg" });
addEventListener("resize", () => chart.resize());
const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
const line = getComputedStyle(document.documentElement).getPropertyValue("--line").trim();

function draw() {
  const { data, config } = cloister;
  const value = typeof data === "number" ? Math.round(data * 10) / 10 : null;
  chart.setOption({
    animation: !matchMedia("(prefers-reduced-motion: reduce)").matches,
    series: [{
      type: "gauge", min: Number(config.min ?? 0), max: Number(config.max ?? 100), radius: "95%", center: ["50%", "60%"],
      progress: { show: true, width: 12, itemStyle: { color: config.color } }, pointer: { show: false },
      axisLine: { lineStyle: { width: 12, color: [[1, line]] } }, axisTick: { show: false }, splitLine: { show: false },
      axisLabel: { color: ink, distance: 16, fontSize: 10 }, splitNumber: 2,
      detail: { formatter: `{value} ${config.unit || ""}`, color: ink, fontSize: 22, offsetCenter: [0, "30%"] },
      data: value === null ? [] : [{ value }],
    }],
  });
}
cloister.onDataChanged(draw);
cloister.onConfigChanged(draw);
