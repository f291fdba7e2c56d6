"use strict";
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
