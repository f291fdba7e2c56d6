"use strict";
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
