"use strict";
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
