import { expect, test } from "vitest";
import { draftKey, dropDraft, dropDrafts, findDraft, keepDraft, ownDrafts } from "./drafts";
import { storageOf } from "./storage.fake";

const key = draftKey("a", "shop", "1");
const isText = (draft: string): boolean => typeof draft === "string";

test("a draft comes back until it is dropped", () => {
  const storage = storageOf();
  expect(keepDraft(storage, key, "x")).toBe(true);
  expect(findDraft(storage, key, isText)).toBe("x");
  expect(findDraft(storage, draftKey("a", "shop", "2"), isText)).toBeUndefined();
  dropDraft(storage, key);
  expect(findDraft(storage, key, isText)).toBeUndefined();
});

test("a draft without room leaves no older one behind, which would be taken for it", () => {
  const storage = storageOf(400);
  expect(keepDraft(storage, key, "x")).toBe(true);
  expect(keepDraft(storage, key, "x".repeat(400))).toBe(false);
  expect(findDraft(storage, key, isText)).toBeUndefined();
  expect(keepDraft(undefined, key, "x")).toBe(false);
});

test("what is no draft is none", () => {
  const storage = storageOf();
  for (const text of ["{", "1", "null"]) {
    storage.setItem(key, text);
    expect(findDraft(storage, key, (draft: { text: string }) => typeof draft.text === "string")).toBeUndefined();
  }
  expect(findDraft(undefined, key, isText)).toBeUndefined();
});

test("all drafts go together, and nothing else", () => {
  const storage = storageOf();
  for (const script of ["shop", "api", "blog"]) keepDraft(storage, draftKey("a", script), "x");
  storage.setItem("theme", "dark");
  dropDrafts(storage);
  expect(Array.from({ length: storage.length }, (_, i) => storage.key(i))).toEqual(["theme"]);
});

test("who signs in as another finds no drafts", () => {
  const storage = storageOf();
  ownDrafts(storage, "ann");
  keepDraft(storage, key, "x");
  ownDrafts(storage, "ann"); // whose session had ended
  expect(findDraft(storage, key, isText)).toBe("x");
  ownDrafts(storage, "bob");
  expect(findDraft(storage, key, isText)).toBeUndefined();
});
