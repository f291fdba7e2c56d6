import { describe, expect, it } from "vitest";
import { effectScope } from "vue";
import { settled } from "../src/lib/board";
import { contrast, primaries } from "../src/lib/colour";
import { hitsIn } from "../src/lib/draft";
import { tableNames } from "../src/lib/tables";
import { slug, unanswered } from "../src/lib/form";
import { useLoad } from "../src/lib/load";
import { kindOf, nodeAt, patched } from "../src/lib/live";
import { csvOf } from "../src/lib/save";
import { messages } from "../src/texts";

describe("a model that is patched", () => {
  it("changes, gains and loses nodes, and leaves the one before as it was", () => {
    const before = { a: [1, 2], "b/c": { d: 1 } };
    const after = patched(before, [
      { op: "replace", path: "/a/0", value: 9 }, { op: "add", path: "/a/-", value: 3 }, { op: "remove", path: "/b~1c/d" }, { op: "add", path: "/new", value: null },
    ]);
    expect(after).toEqual({ a: [9, 2, 3], "b/c": {}, new: null });
    expect(before).toEqual({ a: [1, 2], "b/c": { d: 1 } });
  });
  it("is replaced whole by an empty path", () => expect(patched(1, [{ op: "replace", path: "", value: [2] }])).toEqual([2]));
});

describe("a node of a model", () => {
  it("is found by its path, or is not there", () => {
    expect(nodeAt({ a: [{ b: 5 }] }, ["a", 0, "b"])).toBe(5);
    expect(nodeAt({ a: 1 }, ["a", "b"])).toBeUndefined();
  });
  it.each([[1, "number"], ["x", "text"], [[{ a: 1 }], "table"], [[1], "list"], [[], "list"], [{}, "object"], [null, "any"]] as const)("%j suits %s", (value, kind) => expect(kindOf(value)).toBe(kind));
});

describe("a CSV file", () => {
  it("quotes what needs it and runs nothing in a spreadsheet", () => {
    expect(csvOf([{ a: 'x,"y"', b: -1 }, { a: "=1+1", c: null }])).toBe('a,b,c\r\n"x,""y""",-1,\r\n\'=1+1,,');
  });
});

it("has every text in both languages, with the same places to fill", () => {
  for (const [key, english] of Object.entries(messages.en)) {
    const german = messages.de[key as keyof typeof messages.de];
    const places = (text: string) => [...new Set(text.match(/\{\w+\}/g) ?? [])].sort();
    expect(german.length, key).toBeGreaterThan(0);
    expect(places(german), key).toEqual(places(english));
    expect(german.split("|").length, key).toBe(english.split("|").length);
  }
});

describe("widgets on a grid", () => {
  const spot = (id: string, x: number, y: number, more = {}) => ({ id, x, y, width: 4, height: 4, ...more });
  const at = (all: { id: string; x: number; y: number }[]) => Object.fromEntries(all.map((one) => [one.id, [one.x, one.y]]));
  it("make room for one that is put on them, and those below for them", () =>
    expect(at(settled([spot("moved", 0, 0), spot("a", 2, 1), spot("b", 3, 5), spot("c", 10, 0)], "moved"))).toEqual({ moved: [0, 0], a: [2, 4], b: [3, 8], c: [10, 0] }));
  it("that are locked stay, and what is put on them goes below", () =>
    expect(at(settled([spot("moved", 0, 2), spot("fast", 0, 0, { locked: true })], "moved"))).toEqual({ moved: [0, 4], fast: [0, 0] }));
  it("never overlap, however they are moved", () => {
    for (let seed = 1; seed < 60; seed += 1) {
      const any = (n: number, most: number) => (seed * 7919 * (n + 1)) % most;
      const all = settled(Array.from({ length: 9 }, (_, n) => spot(`w${n}`, any(n, 20), any(n + 3, 9))), "w4");
      for (const one of all) for (const two of all) if (one.id < two.id) expect(one.x < two.x + two.width && two.x < one.x + one.width && one.y < two.y + two.height && two.y < one.y + one.height).toBe(false);
    }
  });
});

describe("a form", () => {
  const field = (name: string, type: string, required = true) => ({ name, type, label: name, help: "", required, options: [] }) as never;
  it("needs what it asks for; a checkbox may stay empty, a consent may not", () =>
    expect(unanswered([field("a", "text"), field("b", "text", false), field("c", "checkbox"), field("d", "consent"), field("e", "text")], { e: "x" })).toEqual(["a", "d"]));
  it.each([["Die Stürmer!", "die-sturmer"], ["  42 Teams ", "teams"], ["Storm", "storm"], ["---", ""]])("makes an address's part of %s", (typed, name) => expect(slug(typed)).toBe(name));
});

it("finds words in files by line", () => {
  expect(hitsIn({ "b.py": "x\nimport Rain", "a.md": "rain and rain" }, "RAIN")).toEqual([{ file: "a.md", line: 1, text: "rain and rain" }, { file: "b.py", line: 2, text: "import Rain" }]);
  expect(hitsIn({ a: "x" }, "x")).toEqual([]);
  expect(hitsIn({ a: "x" }, null), "as a field that was cleared says").toEqual([]);
});

it("makes tables of files, whose names differ and need no quotes", () => {
  expect(tableNames(["2023_sales.csv", "2024_sales.csv", "Ages (new).csv.gz", "ages new.xlsx", "…", "€.csv"])).toEqual(["t_2023_sales", "t_2024_sales", "ages_new", "ages_new_2", "table", "table_2"]);
  for (const name of tableNames(Array.from({ length: 30 }, () => `${"x".repeat(90)}.csv`))) expect(name).toMatch(/^[a-z][a-z0-9_]{0,62}$/);
});

describe("a brand's colour", () => {
  it("is kept where words in it can be read", () => {
    expect(contrast("#000000", "#ffffff")).toBeCloseTo(21);
    expect(primaries("#1f5fa8").light).toBe("#1f5fa8");
  });
  it.each(["#ffff00", "#000000", "#ffffff", "#777777", "#E91E63"])("%s has a shade for each theme", (color) => {
    const { light, dark } = primaries(color);
    expect(contrast(light, "#ffffff")).toBeGreaterThan(4.5);
    expect(contrast(dark, "#1a222c")).toBeGreaterThan(4.5);
  });
});

describe("what is loaded", () => {
  it("is what was asked for last, also when an earlier answer comes later, and who waited has it", async () => {
    const answers: ((text: string) => void)[] = [];
    const scope = effectScope();
    const loaded = scope.run(() => useLoad(() => new Promise<string>((answer) => answers.push(answer))))!;
    const again = loaded.load();
    answers[1]!("new");
    await again;
    expect([loaded.data.value, loaded.busy.value]).toEqual(["new", false]);
    answers[0]!("old");
    await Promise.resolve();
    await Promise.resolve();
    expect(loaded.data.value).toBe("new");

    const [first, second] = [loaded.load(), loaded.load()];
    let waits = true;
    void first.then(() => (waits = false));
    answers[2]!("old");
    await Promise.resolve();
    expect([loaded.data.value, waits]).toEqual(["new", true]);
    answers[3]!("newest");
    await Promise.all([first, second]);
    expect(loaded.data.value).toBe("newest");

    void loaded.load();
    loaded.put("done just now");
    answers[4]!("asked before that");
    await Promise.resolve();
    expect([loaded.data.value, loaded.busy.value]).toEqual(["done just now", false]);
    scope.stop();
  });
});
