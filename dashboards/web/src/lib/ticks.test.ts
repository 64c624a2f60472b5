import { expect, test } from "vitest";
import { tickStep, tickText, timeTicks, zoneOffset } from "./ticks";

const at = (text: string): number => Date.parse(text) / 1000;

function texts(since: string, until: string, most: number, zone: string): string[] {
  const step = tickStep(at(until) - at(since), most);
  return timeTicks(at(since), at(until), most, zone).map((t) => tickText(t, step, zone));
}

test("ticks lie at round times of the zone, also of one that is half an hour off", () => {
  expect(texts("2026-03-01T10:07:00Z", "2026-03-01T11:07:00Z", 6, "UTC")).toEqual(["10:10", "10:20", "10:30", "10:40", "10:50", "11:00"]);
  expect(texts("2026-03-01T10:00:00Z", "2026-03-01T14:00:00Z", 4, "Asia/Kolkata")).toEqual(["16:00", "17:00", "18:00", "19:00"]);
  expect(texts("2026-03-01T10:00:00Z", "2026-03-01T10:00:20Z", 4, "UTC")).toEqual(["10:00:00", "10:00:05", "10:00:10", "10:00:15", "10:00:20"]);
});

test("in spring the hour that clocks skip has no tick, and those behind it stay round", () => {
  // New York went from 01:59:59 EST (UTC-5) to 03:00:00 EDT (UTC-4) at 07:00 UTC.
  expect(texts("2026-03-08T05:00:00Z", "2026-03-08T10:00:00Z", 5, "America/New_York")).toEqual(["8 Mar", "01:00", "03:00", "04:00", "05:00", "06:00"]);
  expect(texts("2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z", 4, "America/New_York")).toEqual(["8 Mar", "06:00", "12:00", "18:00", "9 Mar"]);
  // The same hours in UTC are not touched by it, wherever the browser is.
  expect(texts("2026-03-08T05:00:00Z", "2026-03-08T10:00:00Z", 5, "UTC")).toEqual(["05:00", "06:00", "07:00", "08:00", "09:00", "10:00"]);
});

test("in autumn the hour that comes twice has two ticks", () => {
  expect(texts("2026-11-01T04:00:00Z", "2026-11-01T08:00:00Z", 4, "America/New_York")).toEqual(["1 Nov", "01:00", "01:00", "02:00", "03:00"]);
});

test("days begin at the zone's midnight across a change of clocks", () => {
  const ticks = timeTicks(at("2026-03-06T00:00:00Z"), at("2026-03-11T00:00:00Z"), 5, "America/New_York");
  expect(ticks.map((t) => new Date(t * 1000).toISOString())).toEqual([
    "2026-03-06T05:00:00.000Z", "2026-03-07T05:00:00.000Z", "2026-03-08T05:00:00.000Z", "2026-03-09T04:00:00.000Z", "2026-03-10T04:00:00.000Z",
  ]);
});

test("there are never more parts than asked for, however long the time", () => {
  for (const days of [1, 31, 400, 4000]) expect((days * 86400) / tickStep(days * 86400, 6)).toBeLessThanOrEqual(6);
});

test("offsets are those of the moment", () => {
  expect(zoneOffset(at("2026-03-08T06:59:59Z"), "America/New_York")).toBe(-5 * 3600);
  expect(zoneOffset(at("2026-03-08T07:00:00Z"), "America/New_York")).toBe(-4 * 3600);
  expect(zoneOffset(at("2026-03-08T07:00:00.5Z"), "UTC")).toBe(0);
});
