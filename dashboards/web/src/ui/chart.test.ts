import { expect, test } from "vitest";
import { describe, moved, zoomed } from "./chartkeys";
import { groupMarks, type Mark } from "./chartmarks";

test("keys move the cursor within the values", () => {
  expect(moved("ArrowRight", 3, 60, false)).toBe(4);
  expect(moved("ArrowRight", 59, 60, false)).toBe(59);
  expect(moved("ArrowLeft", 3, 60, true)).toBe(0);
  expect(moved("PageDown", 0, 60, false)).toBe(6);
  expect(moved("Home", 9, 60, false)).toBe(0);
  expect(moved("End", 9, 60, false)).toBe(59);
  expect(moved("a", 9, 60, false)).toBeUndefined();
});

test("zooming keeps what is under the cursor where it is, and does not go into the future", () => {
  expect(zoomed([0, 3600], 900, 0.5, 1e9)).toEqual([450, 2250]);
  expect(zoomed([0, 3600], 900, 2, 1e9)).toEqual([-900, 6300]);
  expect(zoomed([0, 3600], 1800, 2, 3600)).toEqual([-3600, 3600]);
  expect(zoomed([0, 12], 6, 0.5, 1e9)).toEqual([1, 11]);
});

test("marks that stand too close share a flag, which is a bad one if one of them is", () => {
  const marks: Mark[] = [
    { at: 500, text: "rolled back", tone: "bad", glyph: "↩" }, { at: 498, text: "v2 to 50 %", tone: "accent" },
    { at: 420, text: "v2 to 10 %", tone: "accent" }, { at: 2000, text: "not in the range" },
  ];
  expect(groupMarks(marks, [0, 1000], 1000)).toEqual([
    { at: 420, texts: ["v2 to 10 %"], tone: "accent", glyph: "◆" },
    { at: 498, texts: ["v2 to 50 %", "rolled back"], tone: "bad", glyph: "↩" },
  ]);
  expect(groupMarks(marks, [0, 1000], 270)).toEqual([
    { at: 420, texts: ["v2 to 10 %", "v2 to 50 %", "rolled back"], tone: "bad", glyph: "↩" },
  ]);
});

test("a chart in a sentence does not tell an old value as that of its end", () => {
  const series = (name: string, ...values: (number | null)[]) => ({ name, color: 0, values });
  const text = describe({ label: "Failure rate", format: String, series: [series("v1", 1, 2), series("v2", 3, null), series("v3", null, null)] });
  expect(text).toBe("Failure rate. v1: 2 at the end. v2: 3 at last, then nothing known. v3: nothing known");
});
