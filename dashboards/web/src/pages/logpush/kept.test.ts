import { expect, test } from "vitest";
import { findDraft, keepDraft } from "../../lib/drafts";
import { storageOf } from "../../lib/storage.fake";
import { newDraft } from "./draft";
import { draftOfKept, isKept, keptOf, keyOf } from "./kept";

const at = new Date("2026-11-28T12:00:00Z");
const typed = { ...newDraft(), name: "shop", conf: "s3://logs/a?region=eu-central-1&access-key-id=AKIA1&secret-access-key=s3cret", challenge: "s3cret", fields: ["Outcome"] };

test("an unsaved form comes back without credentials, and says so", () => {
  const storage = storageOf();
  keepDraft(storage, keyOf("a", undefined), keptOf(typed, newDraft(), undefined, at));
  expect(storage.getItem(keyOf("a", undefined))).not.toMatch(/s3cret|AKIA1/);
  const kept = findDraft(storage, keyOf("a", undefined), isKept)!;
  expect(kept.lacking).toBe(true);
  expect(draftOfKept(kept, newDraft())).toEqual({ ...typed, conf: "s3://logs/a?region=eu-central-1", challenge: "" });
  expect(findDraft(storage, keyOf("a", "7"), isKept)).toBeUndefined();
  expect(findDraft(storage, keyOf("b", undefined), isKept)).toBeUndefined();
});

test("a stored destination that was not changed is the job's, with its credentials", () => {
  const clean = { ...typed, challenge: "" };
  const kept = keptOf({ ...clean, name: "changed" }, clean, "e1", at);
  expect(JSON.stringify(kept)).not.toMatch(/s3cret|AKIA1/);
  expect(kept).toMatchObject({ lacking: false, etag: "e1" });
  expect(draftOfKept(kept, clean)).toEqual({ ...clean, name: "changed" });
});

test("a form of another shape is not brought back", () => {
  const storage = storageOf();
  for (const text of ["{", "1", "{}", `{"draft":{"name":"shop"}}`]) {
    storage.setItem(keyOf("a", "7"), text);
    expect(findDraft(storage, keyOf("a", "7"), isKept)).toBeUndefined();
  }
});
