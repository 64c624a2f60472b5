import { expect, test } from "vitest";
import { newDraft } from "./draft";
import { draftOfKept, findKept, keepForm, keptOf } from "./kept";

function fakeStorage(room = Infinity): Storage {
  const items = new Map<string, string>();
  return {
    get length() { return items.size; }, clear: () => items.clear(), key: (i) => [...items.keys()][i] ?? null,
    getItem: (k) => items.get(k) ?? null, removeItem: (k) => void items.delete(k),
    setItem: (k, v) => { if (v.length > room) throw new Error("full"); items.set(k, v); },
  };
}

const at = new Date("2026-11-28T12:00:00Z");
const typed = { ...newDraft(), name: "shop", conf: "s3://logs/a?region=eu-central-1&access-key-id=AKIA1&secret-access-key=s3cret", challenge: "s3cret", fields: ["Outcome"] };

test("an unsaved form comes back without credentials, and says so", () => {
  const storage = fakeStorage();
  expect(keepForm(storage, "a", undefined, keptOf(typed, newDraft(), undefined, at))).toBe(true);
  expect(storage.key(0)).toMatch(/^tidegate\.draft\./); // signing out drops it
  expect(storage.getItem(storage.key(0)!)).not.toMatch(/s3cret|AKIA1/);
  const kept = findKept(storage, "a", undefined)!;
  expect(kept.lacking).toBe(true);
  expect(draftOfKept(kept, newDraft())).toEqual({ ...typed, conf: "s3://logs/a?region=eu-central-1", challenge: "" });
  expect(findKept(storage, "a", "7")).toBeUndefined();
  expect(findKept(storage, "b", undefined)).toBeUndefined();
  keepForm(storage, "a", undefined, undefined);
  expect(findKept(storage, "a", undefined)).toBeUndefined();
});

test("a stored destination that was not changed is the job's, with its credentials", () => {
  const clean = { ...typed, challenge: "" };
  const kept = keptOf({ ...clean, name: "changed" }, clean, "e1", at);
  expect(JSON.stringify(kept)).not.toMatch(/s3cret|AKIA1/);
  expect(kept).toMatchObject({ lacking: false, etag: "e1" });
  expect(draftOfKept(kept, clean)).toEqual({ ...clean, name: "changed" });
});

test("a form that has no room, or another shape, is not brought back", () => {
  const storage = fakeStorage(2000);
  keepForm(storage, "a", "7", keptOf(typed, newDraft(), undefined, at));
  expect(keepForm(storage, "a", "7", keptOf({ ...typed, template: "x".repeat(3000) }, newDraft(), undefined, at))).toBe(false);
  expect(findKept(storage, "a", "7")).toBeUndefined();
  for (const text of ["{", "1", "{}", `{"draft":{"name":"shop"}}`]) {
    storage.setItem("tidegate.draft.logpush.a.7", text);
    expect(findKept(storage, "a", "7")).toBeUndefined();
  }
  expect(findKept(undefined, "a", "7")).toBeUndefined();
});
