"use strict";
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
