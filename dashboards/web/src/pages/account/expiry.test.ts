import { expect, test } from "vitest";
import { expiresOn, wrongExpiry } from "./expiry";

const now = new Date("2026-11-27T16:00:00Z");

test("a lifetime counts from now", () => {
  expect(expiresOn("7", "", now)?.toISOString()).toBe("2026-12-04T16:00:00.000Z");
  expect(expiresOn("365", "", now)?.toISOString()).toBe("2027-11-27T16:00:00.000Z");
  expect(expiresOn("never", "", now)).toBeUndefined();
});

test("a date is the reader's", () => {
  expect(expiresOn("date", "2026-12-24T18:30", now)?.getTime()).toBe(new Date(2026, 11, 24, 18, 30).getTime());
});

test("what is no time, or has passed, is refused", () => {
  expect(wrongExpiry("date", "", now)).toMatch(/Choose/);
  expect(wrongExpiry("date", "2020-01-01T00:00", now)).toMatch(/passed/);
  expect(wrongExpiry("date", "2999-01-01T00:00", now)).toBeUndefined();
  expect(wrongExpiry("30", "", now)).toBeUndefined();
});
