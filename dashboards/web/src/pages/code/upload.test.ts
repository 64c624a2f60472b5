import { expect, test } from "vitest";
import { template } from "./first";
import { moduleTypes } from "./modules";
import type { Version } from "./settings";
import { bindingsFor, formFor, metadataFor, parseFlags } from "./upload";

const version = (id: string, changes: Partial<Version>): Version => ({
  id, number: 1, created_on: "2026-01-01T00:00:00Z", source: "api", author_email: "", annotations: {}, urls: [],
  bindings: [], compatibility_flags: [], usage_model: "standard", limits: {}, ...changes,
});

const edited = { modules: [], main: "index.js", compatibilityDate: "2026-03-01", compatibilityFlags: ["nodejs_compat"], tag: "v2", message: "" };

test("a first version has the bindings of its template, which are nowhere to be inherited from", () => {
  expect(bindingsFor(template, template)).toEqual([{ name: "VERSION", type: "version_metadata" }]);
  expect(atob(template.modules![0]!.content_base64)).toContain("Hello World");
});

test("bindings come from the version that was edited, and secrets from the newest that has them", () => {
  const base = version("base", { bindings: [{ name: "WHO", type: "plain_text", text: "x" }, { name: "KEY", type: "secret_text" }, { name: "OLD", type: "secret_text" }, { name: "WAS", type: "secret_text" }] });
  const newest = version("newest", { bindings: [{ name: "WHO", type: "plain_text", text: "y" }, { name: "KEY", type: "secret_text" }, { name: "WAS", type: "plain_text", text: "" }] });
  expect(bindingsFor(base, newest)).toEqual([
    { name: "WHO", type: "inherit", version_id: "base" },
    { name: "KEY", type: "inherit" },
    { name: "OLD", type: "inherit", version_id: "base" },
    { name: "WAS", type: "inherit", version_id: "base" },
  ]);
});

test("what nobody changed stays, and what was left empty is not sent", () => {
  const base = version("base", { limits: { cpu_ms: 50 }, usage_model: "bundled", cache_options: { enabled: true } as never, compatibility_date: "2026-01-01" });
  expect(JSON.parse(JSON.stringify(metadataFor(base, base, edited)))).toEqual({
    main_module: "index.js", bindings: [], compatibility_date: "2026-03-01", compatibility_flags: ["nodejs_compat"], usage_model: "bundled",
    limits: { cpu_ms: 50 }, cache_options: { enabled: true }, annotations: { "workers/tag": "v2" },
  });
});

test("each module is a part with its name, type and bytes", async () => {
  const bytes = Uint8Array.from([0, 97, 255]);
  const base = version("base", {});
  const form = formFor(base, base, { ...edited, modules: [{ name: "lib/a.wasm", contentType: moduleTypes.wasm, bytes }] });
  const part = form.get("lib/a.wasm") as File;
  expect([part.name, part.type, new Uint8Array(await part.arrayBuffer())]).toEqual(["lib/a.wasm", "application/wasm", bytes]);
  expect([...form.keys()]).toEqual(["metadata", "lib/a.wasm"]);
});

test("flags are separated by spaces or commas", () => {
  expect(parseFlags(" nodejs_compat, global_navigator\nnodejs_compat ")).toEqual(["nodejs_compat", "global_navigator"]);
  expect(parseFlags("")).toEqual([]);
});
