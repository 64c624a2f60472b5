import { expect, test } from "vitest";
import { ownDrafts } from "../../session";
import { dropDrafts } from "../code/draft";
import { draftOf, newPolicy } from "./draft";
import { dropEdits, findEdits, keepEdits } from "./kept";

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

const shop = { account: "a", script: "shop" };
const edits = { held: { policy: null, etag: '"0"' }, draft: { ...draftOf(newPolicy), enabled: false } };

test("edits come back to the policy that they were made in, and to no other", () => {
  const storage = storageOf(10_000);
  expect(keepEdits(storage, shop, edits)).toBe(true);
  expect(findEdits(storage, shop)).toEqual(edits);
  expect(findEdits(storage, { account: "a", script: undefined })).toBeUndefined();
  expect(findEdits(storage, { ...shop, account: "b" })).toBeUndefined();
  dropEdits(storage, shop);
  expect(findEdits(storage, shop)).toBeUndefined();
});

test("who signs out leaves no edits, and who signs in as another finds none", () => {
  const storage = storageOf(10_000);
  ownDrafts(storage, "ann");
  keepEdits(storage, shop, edits);
  ownDrafts(storage, "ann"); // whose session had ended
  expect(findEdits(storage, shop)).toEqual(edits);
  ownDrafts(storage, "bob");
  expect(findEdits(storage, shop)).toBeUndefined();
  keepEdits(storage, shop, edits);
  dropDrafts(storage);
  expect(findEdits(storage, shop)).toBeUndefined();
});

test("an address and a secret that were typed are not kept", () => {
  const storage = storageOf(10_000);
  const target = { type: "webhook" as const, url: "https://ci.example.com/hooks/key", secret: "0123456789abcdef", to: "", on: [] };
  const masked = { ...target, url: "https://ci.example.com/***1a2b3c4d", secret: "***" };
  keepEdits(storage, shop, { ...edits, draft: { ...edits.draft, notify: [target, masked] } });
  expect(findEdits(storage, shop)?.draft.notify).toEqual([{ ...target, url: "", secret: "" }, masked]);
});

test("edits without room leave no older ones behind, and what is none is none", () => {
  const storage = storageOf(JSON.stringify(edits).length);
  expect(keepEdits(storage, shop, edits)).toBe(true);
  expect(keepEdits(storage, shop, { ...edits, held: { policy: newPolicy as never, etag: '"1"' } })).toBe(false);
  expect(findEdits(storage, shop)).toBeUndefined();
  storage.setItem("tidegate.draft.policy.a.shop", '{"held":{"etag":""},"draft":{"numbers":{}}}');
  expect(findEdits(storage, shop)).toBeUndefined();
  expect(keepEdits(undefined, shop, edits)).toBe(false);
});
