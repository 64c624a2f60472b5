import { expect, test } from "vitest";
import { hearClock } from "../../lib/clock";
import { moduleTypes, type Module } from "./modules";
import type { Version } from "./settings";
import { afterSave, changedFrom, draftOf, editedOf, nextId, workOf, workOfDraft, type Sheet } from "./work";

const bytes = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>;
const modules: Module[] = [
  { name: "lib.js", contentType: moduleTypes.esm, bytes: bytes("export {}") },
  { name: "index.js", contentType: moduleTypes.esm, bytes: bytes("import './lib.js'") },
  { name: "a.wasm", contentType: moduleTypes.wasm, bytes: Uint8Array.from([0, 255]) },
];
const version: Version = {
  id: "0b9e2c53-0000-4000-8000-000000000000", number: 3, created_on: "2026-01-01T00:00:00Z", source: "api", author_email: "", annotations: {}, urls: [],
  bindings: [], compatibility_date: "2026-01-01", compatibility_flags: ["nodejs_compat"], usage_model: "standard", limits: {}, main_module: "index.js",
};
const text = (s: Sheet): string => s.text!;

test("what was not changed is uploaded byte by byte", () => {
  const edited = editedOf(workOf(version, modules), text, ["nodejs_compat"]);
  expect(edited).toEqual({ modules, main: "index.js", compatibilityDate: "2026-01-01", compatibilityFlags: ["nodejs_compat"], tag: "", message: "" });
});

test("a draft gives back names, texts and the main module, and modules that are no text from the version", () => {
  const work = workOf(version, modules);
  const sheets = work.sheets.map((s) => (s.name === "index.js" ? { ...s, name: "main.js" } : s)).filter((s) => s.name !== "lib.js");
  const changed = { ...work, sheets, tag: "v4" };
  const draft = JSON.parse(JSON.stringify(draftOf(changed, (s) => `// ${s.name}`, version)));
  const back = workOfDraft(draft, modules);
  expect(back.sheets.map((s) => [s.name, s.text, s.was?.name])).toEqual([["main.js", "// main.js", "index.js"], ["a.wasm", undefined, "a.wasm"]]);
  expect(editedOf(back, text, []).main).toBe("main.js");
  expect(back.tag).toBe("v4");
  expect(draft.version).toBe("version 3");
});

test("names, modules and settings are changes, too", () => {
  const work = workOf(version, modules);
  expect(changedFrom(work, { ...work })).toBe(false);
  expect(changedFrom(work, { ...work, main: 0 })).toBe(true);
  expect(changedFrom(work, { ...work, compatibilityFlags: "" })).toBe(true);
  expect(changedFrom(work, { ...work, sheets: work.sheets.slice(1) })).toBe(true);
  expect(changedFrom(work, { ...work, sheets: work.sheets.map((s) => ({ ...s, name: `${s.name}x` })) })).toBe(true);
});

test("a new module never takes the place of one that was deleted", () => {
  const work = workOf(version, modules);
  expect(nextId({ ...work, sheets: work.sheets.slice(0, 1) }, work)).toBe(3);
});

test("what is changed while a save runs stays, as changes of what was saved", () => {
  const sent = { ...workOf(version, modules), tag: "v4", message: "faster" };
  const saved = modules.map((m) => ({ ...m, bytes: bytes(`saved ${m.name}`) }));
  const settled = { ...sent, sheets: sent.sheets.map((s, i) => ({ ...s, was: saved[i]! })), tag: "", message: "" };
  expect(changedFrom(settled, afterSave(sent, settled, sent))).toBe(false);

  const added: Sheet = { id: 7, name: "new.js", contentType: moduleTypes.esm, text: "", was: undefined };
  const sheets = [...sent.sheets.slice(1).map((s) => (s.name === "index.js" ? { ...s, name: "main.js" } : s)), added];
  const next = afterSave(sent, settled, { ...sent, sheets, compatibilityFlags: "", message: "faster still" });
  expect(next.sheets.map((s) => [s.name, s.was])).toEqual([["main.js", saved[1]], ["a.wasm", saved[2]], ["new.js", undefined]]);
  expect([next.compatibilityFlags, next.tag, next.message]).toEqual(["", "", "faster still"]);
  expect(changedFrom(settled, next)).toBe(true);
});

test("a browser whose clock is wrong does not tell of a draft of tomorrow", () => {
  const now = Date.now();
  hearClock(new Date(now - 24 * 3_600_000).toUTCString(), now, now);
  const { at } = draftOf(workOf(version, modules), text, version);
  hearClock(new Date(now).toUTCString(), now, now); // agree again
  expect(Math.abs(Date.parse(at) - (now - 24 * 3_600_000))).toBeLessThan(60_000);
});
