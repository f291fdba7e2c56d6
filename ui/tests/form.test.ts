import { mount } from "@vue/test-utils";
import { describe, expect, it } from "vitest";
import { createVuetify } from "vuetify";
import { i18n } from "../src/i18n";
import ConfigForm from "../src/parts/ConfigForm.vue";
import ModelTree from "../src/parts/ModelTree.vue";

const global = { plugins: [createVuetify(), i18n] };

describe("the form of a configuration model", () => {
  it("never shows a password that is set, and keeps it when nothing is typed", async () => {
    const form = mount(ConfigForm, { global, props: { model: [{ type: "password", name: "key", label: "Key" }], values: { key: { set: true } } } });
    const input = form.get("input");
    expect(input.attributes("type")).toBe("password");
    expect(input.element.value).toBe("");
    await input.setValue("");
    await input.trigger("change");
    expect(form.emitted("change")?.at(-1)).toEqual([{ key: { set: true } }]);
    await input.setValue("new");
    await input.trigger("change");
    expect(form.emitted("change")?.at(-1)).toEqual([{ key: "new" }]);
  });
  it("says when there is nothing to set", () => expect(mount(ConfigForm, { global, props: { model: [], values: {} } }).text()).toContain("nothing"));
});

describe("the tree of a live model", () => {
  it("lets any node be picked by its path", async () => {
    const tree = mount(ModelTree, { global, props: { value: { rows: [{ mm: 4.5 }] }, path: [], name: "rain" } });
    const nodes = tree.findAll("button.pick");
    expect(nodes.map((node) => node.text())).toEqual(["rain {1}", "rows [1]", "0 {1}"]);
    await nodes[1]?.trigger("click");
    expect(tree.emitted("pick")).toEqual([[["rows"]]]);
  });
});
