"use strict";
const svg = d3.select("#map");
const land = topojson.feature(WORLD, WORLD.objects.countries);

function draw() {
  const { data, config } = cloister;
  const { innerWidth: width, innerHeight: height } = window;
  const projection = d3.geoNaturalEarth1().fitSize([width, height], { type: "Sphere" });
  const path = d3.geoPath(projection);
  svg.attr("viewBox", [0, 0, width, height]);
  svg.selectAll("path").data(land.features).join("path").attr("d", path).attr("fill", "var(--line)").attr("stroke", "var(--ground)");
  const rows = rowsOf(data).map((row) => ({ ...row, at: projection([Number(row.longitude ?? row.lon), Number(row.latitude ?? row.lat)]) }))
    .filter((row) => row.at && row.at.every(Number.isFinite));
  const most = d3.max(rows, (row) => Math.abs(Number(row[config.value]))) || 1;
  const size = (row) => (config.value ? 3 + 12 * Math.sqrt(Math.abs(Number(row[config.value]) || 0) / most) : 5);
  svg.selectAll("circle").data(rows).join("circle").attr("cx", (row) => row.at[0]).attr("cy", (row) => row.at[1]).attr("r", size)
    .attr("fill", config.color || "#c0392b").attr("fill-opacity", 0.75)
    .selectAll("title").data((row) => [row]).join("title")
    .text((row) => [row[config.label] ?? row.place ?? row.name ?? "", config.value ? row[config.value] : ""].filter((part) => part !== "").join(": "));
}
addEventListener("resize", draw);
cloister.onDataChanged(draw);
cloister.onConfigChanged(draw);
