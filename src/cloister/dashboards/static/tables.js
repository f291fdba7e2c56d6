// For widgets: tables out of whatever shape a program put out.
"use strict";

/** Rows of a table: of a list of objects, an object of lists, or a list of numbers. */
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

/** The parts of a list with commas. */
const names = (text) => (text || "").split(",").map((part) => part.trim()).filter(Boolean);

/** The column of labels and those of numbers: what a viewer chose, or what suits. */
function columnsOf(rows, config) {
  const all = rows.length ? Object.keys(rows[0]) : [];
  const x = config.x || all.find((name) => typeof rows[0][name] !== "number") || all[0];
  const y = names(config.y).length ? names(config.y) : all.filter((name) => name !== x && typeof rows[0][name] === "number").slice(0, 8);
  return { x, y };
}
