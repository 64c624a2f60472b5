import { expect, test } from "vitest";
import { findDraft, keepDraft } from "../../lib/drafts";
import { storageOf } from "../../lib/storage.fake";
import { draftOf, newPolicy } from "./draft";
import { isKept, keyOf, withoutSecrets } from "./kept";

const shop = { account: "a", script: "shop" };
const edits = { held: { policy: null, etag: '"0"' }, draft: { ...draftOf(newPolicy), enabled: false } };

test("edits come back to the policy that they were made in, and to no other", () => {
  const storage = storageOf();
  keepDraft(storage, keyOf(shop), edits);
  expect(findDraft(storage, keyOf(shop), isKept)).toEqual(edits);
  expect(findDraft(storage, keyOf({ account: "a", script: undefined }), isKept)).toBeUndefined();
  expect(findDraft(storage, keyOf({ ...shop, account: "b" }), isKept)).toBeUndefined();
  storage.setItem(keyOf(shop), '{"held":{"etag":""},"draft":{"numbers":{}}}');
  expect(findDraft(storage, keyOf(shop), isKept)).toBeUndefined();
});

test("an address and a secret that were typed are not kept", () => {
  const target = { type: "webhook" as const, url: "https://ci.example.com/hooks/key", secret: "0123456789abcdef", to: "", on: [] };
  const masked = { ...target, url: "https://ci.example.com/***1a2b3c4d", secret: "***" };
  expect(withoutSecrets({ ...edits.draft, notify: [target, masked] }).notify).toEqual([{ ...target, url: "", secret: "" }, masked]);
});
