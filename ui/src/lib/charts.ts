// The few kinds of charts that insight draws, as options of ECharts.
const grid = { left: 8, right: 16, top: 8, bottom: 8, containLabel: true };
export const SHADES = ["rgba(31,95,168,0.06)", "#1f5fa8"];

/** One bar a row, longest word first read: names down the side. */
export const across = (names: string[], values: number[], name: string, labels = false) => ({
  grid: { ...grid, right: labels ? 48 : 16 }, tooltip: {}, xAxis: { type: "value", minInterval: values.every(Number.isInteger) ? 1 : undefined }, yAxis: { type: "category", inverse: true, data: names },
  series: [{ type: "bar", name, data: values, barMaxWidth: 24, ...(labels ? { label: { show: true, position: "right" } } : {}) }],
});

/** Bars side by side, such as days; several series are stacked. */
export const upright = (names: string[], series: { name: string; data: number[] }[]) => ({
  grid: { ...grid, top: series.length > 1 ? 30 : 12 }, legend: series.length > 1 ? { top: 0, bottom: "auto" } : undefined, tooltip: { trigger: "axis" },
  xAxis: { type: "category", data: names }, yAxis: { type: "value" }, series: series.map((one) => ({ type: "bar", stack: "all", barMaxWidth: 28, ...one })),
});

/** A value for each weekday (0: the first of the words) and hour. */
export const heat = (weekdays: string[], cells: { weekday: number; hour: number; value: number }[]) => ({
  grid: { ...grid, bottom: 48 }, tooltip: { formatter: (one: { value: [number, number, number] }) => `${weekdays[one.value[1]]} ${one.value[0]}–${one.value[0] + 1} h: ${Math.round(one.value[2] * 100) / 100}` }, xAxis: { type: "category", data: [...Array(24).keys()].map(String) }, yAxis: { type: "category", inverse: true, data: weekdays },
  visualMap: { min: 0, max: Math.max(1, ...cells.map((one) => one.value)), orient: "horizontal", left: "center", bottom: 0, itemHeight: 90, text: [String(Math.round(Math.max(0, ...cells.map((one) => one.value)) * 10) / 10), "0"], inRange: { color: SHADES } },
  series: [{ type: "heatmap", data: cells.map((one) => [one.hour, one.weekday, one.value]) }],
});

/** How many people did something how often: 0, 1, 2–3, 4–7 and so on, each step twice as wide as the one before. */
export function spread(counts: number[], people: number): { times: string; people: number }[] {
  const most = Math.max(0, ...counts);
  const steps = [{ times: "0", people: Math.max(0, people - counts.length) }];
  for (let low = 1; low <= most; low *= 2) {
    const high = low * 2 - 1;
    steps.push({ times: low === high ? String(low) : `${low}–${high}`, people: counts.filter((one) => one >= low && one <= high).length });
  }
  return steps;
}

export function median(counts: number[]): number {
  const sorted = [...counts].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  if (!sorted.length) return 0;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
