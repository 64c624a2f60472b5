import { expect, test } from "vitest";
import { findDraft, keepDraft } from "../../lib/drafts";
import { storageOf } from "../../lib/storage.fake";
import { isDraft, keyOf, otherDrafts, type Draft } from "./draft";

const draft = (text: string): Draft => ({
  at: "2026-01-01T00:00:00Z", version: "v1", modules: [{ name: "index.js", contentType: "application/javascript+module", text }], main: "index.js",
  compatibilityDate: "", compatibilityFlags: "", tag: "", message: "",
});

test("a draft comes back for its version, and is told of at the others", () => {
  const storage = storageOf(), key = { account: "a", script: "shop", version: "1" };
  keepDraft(storage, keyOf(key), draft("x"));
  expect(findDraft(storage, keyOf(key), isDraft)).toEqual(draft("x"));
  expect(findDraft(storage, keyOf({ ...key, script: "shop2" }), isDraft)).toBeUndefined();
  expect(otherDrafts(storage, { ...key, version: "2" })).toEqual([{ version: "1", draft: draft("x") }]);
  expect(otherDrafts(storage, key)).toEqual([]);
  storage.setItem(keyOf(key), '{"modules": 1}');
  expect(findDraft(storage, keyOf(key), isDraft)).toBeUndefined();
});
