import { expect, test } from "vitest";
import { seriesOf } from "./series";

const group = (at: string, status: number, records: number, uploads: number) => ({ dimensions: { at, status, final: 1 }, sum: { records, uploads } });

const later = new Date("2026-03-03T00:00:00Z");

test("uploads stand at their minute, and minutes without any are there", () => {
  const groups = [group("2026-03-01T12:01:00Z", 200, 5, 1), group("2026-03-01T12:01:00Z", 503, 9, 2), group("2026-03-01T12:03:00Z", 1102, 9, 1), group("2026-03-01T11:00:00Z", 200, 7, 1)];
  const s = seriesOf(groups, new Date("2026-03-01T12:00:30Z"), new Date("2026-03-01T12:03:59Z"), later);
  expect(s.times.map((t) => new Date(t * 1000).toISOString().slice(11, 16))).toEqual(["12:00", "12:01", "12:02", "12:03"]);
  expect(s.records).toEqual([0, 5, 0, 0]);
  expect(s.failed).toEqual([0, 2, 0, 1]);
  expect(s.sum).toEqual({ records: 5, failed: 3 });
});

test("a step is drawn once it is over and counted", () => {
  const since = new Date("2026-03-01T12:00:00Z");
  const groups = [group("2026-03-01T12:00:00Z", 200, 5, 1), group("2026-03-01T12:01:00Z", 200, 2, 1), group("2026-03-01T12:01:00Z", 503, 9, 1)];
  const at = (now: string): void => {
    const s = seriesOf(groups, since, new Date(now), new Date(now));
    expect(s.sum, now).toEqual({ records: 7, failed: 1 });
    drawn.push(s.records);
  };
  const drawn: number[][] = [];
  at("2026-03-01T12:01:14Z");
  at("2026-03-01T12:01:15Z");
  at("2026-03-01T12:02:15Z");
  expect(drawn).toEqual([[], [5], [5, 2]]);
});

test("a long range has steps of five minutes", () => {
  const s = seriesOf([group("2026-03-01T12:05:00Z", 200, 5, 1)], new Date("2026-03-01T00:00:00Z"), new Date("2026-03-02T00:00:00Z"), later);
  expect(s.times.length).toBe(289);
  expect(s.records[145]).toBe(5);
});
