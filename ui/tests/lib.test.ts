import { describe, expect, it } from "vitest";
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
