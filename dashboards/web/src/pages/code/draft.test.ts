import { expect, test } from "vitest";
import { dropDraft, dropDrafts, findDraft, keepDraft, otherDrafts, type Draft } from "./draft";

/** A Storage with room for so many characters. */
function storageOf(room: number): Storage {
  const items = new Map<string, string>();
  return {
    get length() { return items.size; },
    clear: () => items.clear(),
    key: (i) => [...items.keys()][i] ?? null,
    getItem: (k) => items.get(k) ?? null,
    removeItem: (k) => void items.delete(k),
    setItem: (k, v) => {
      if (v.length > room) throw new DOMException("full", "QuotaExceededError");
      items.set(k, v);
    },
  };
}

const draft = (text: string): Draft => ({
  at: "2026-01-01T00:00:00Z", version: "v1", modules: [{ name: "index.js", contentType: "application/javascript+module", text }], main: "index.js",
  compatibilityDate: "", compatibilityFlags: "", tag: "", message: "",
});

test("a draft comes back for its version, and is told of at the others", () => {
  const storage = storageOf(10_000), key = { account: "a", script: "shop", version: "1" };
  expect(keepDraft(storage, key, draft("x"))).toBe(true);
  expect(findDraft(storage, key)).toEqual(draft("x"));
  expect(findDraft(storage, { ...key, script: "shop2" })).toBeUndefined();
  expect(otherDrafts(storage, { ...key, version: "2" })).toEqual([{ version: "1", draft: draft("x") }]);
  expect(otherDrafts(storage, key)).toEqual([]);
  dropDraft(storage, key);
  expect(findDraft(storage, key)).toBeUndefined();
});

test("all drafts go together, and nothing else", () => {
  const storage = storageOf(10_000);
  for (const script of ["shop", "api", "blog"]) keepDraft(storage, { account: "a", script, version: "1" }, draft("x"));
  storage.setItem("theme", "dark");
  dropDrafts(storage);
  expect(Array.from({ length: storage.length }, (_, i) => storage.key(i))).toEqual(["theme"]);
});

test("a draft without room leaves no older one behind, which would be taken for it", () => {
  const storage = storageOf(400), key = { account: "a", script: "shop", version: "1" };
  expect(keepDraft(storage, key, draft("x"))).toBe(true);
  expect(keepDraft(storage, key, draft("x".repeat(400)))).toBe(false);
  expect(findDraft(storage, key)).toBeUndefined();
});

test("what is no draft is none", () => {
  const storage = storageOf(400), key = { account: "a", script: "shop", version: "1" };
  storage.setItem("tidegate.draft.a.shop.1", "{");
  expect(findDraft(storage, key)).toBeUndefined();
  storage.setItem("tidegate.draft.a.shop.1", '{"modules": 1}');
  expect(findDraft(storage, key)).toBeUndefined();
});
