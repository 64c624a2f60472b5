import { describe, expect, it } from "vitest";
import { differences, leafText } from "./difference";

describe("differences", () => {
  it("lists what changed, came and went, and leaves out what stayed", () => {
    expect(differences(
      { a: 1, same: { x: [1, 2] }, gone: "x", versions: [{ id: "v1", percentage: 100 }] },
      { a: 2, same: { x: [1, 2] }, come: null, versions: [{ id: "v1", percentage: 90 }, { id: "v2", percentage: 10 }] },
    )).toEqual([
      { path: "a", before: 1, after: 2 },
      { path: "gone", before: "x", after: undefined },
      { path: "versions[0].percentage", before: 100, after: 90 },
      { path: "versions[1].id", before: undefined, after: "v2" },
      { path: "versions[1].percentage", before: undefined, after: 10 },
      { path: "come", before: undefined, after: null },
    ]);
  });

  it("compares values of different kinds as wholes", () => {
    expect(differences("old.example.com", "new.example.com")).toEqual([{ path: "", before: "old.example.com", after: "new.example.com" }]);
    expect(differences({ a: [1] }, { a: { b: 1 } })).toEqual([{ path: "a", before: [1], after: { b: 1 } }]);
    expect(differences(undefined, {})).toEqual([{ path: "", before: undefined, after: {} }]);
    expect(differences([], [])).toEqual([]);
    expect(differences(null, null)).toEqual([]);
  });

  it("takes members that objects have by themselves for absent", () => {
    expect(differences({}, { constructor: 1 })).toEqual([{ path: "constructor", before: undefined, after: 1 }]);
  });
});

it("writes leaves", () => {
  expect(leafText("a")).toBe("a");
  expect(leafText(null)).toBe("null");
  expect(leafText({ a: [1] })).toBe('{"a":[1]}');
});
