import { expect, test } from "vitest";
import { parseRange, rangeQuery } from "./range";

const of = (query: string) => rangeQuery(parseRange((name) => new URLSearchParams(query).get(name) ?? undefined, new Date("2026-03-01T12:00:00Z")));

test("a range that follows the clock is left to end by the server's", () => {
  expect(of("last=900")).toEqual({ since: "2026-03-01T11:45:00.000Z", until: undefined });
  expect(of("last=2592000").since).toBe("2026-01-30T12:00:00.000Z");
  expect(of("last=2592001").since, "longer than the API takes").toBe("2026-03-01T11:00:00.000Z");
});

test("a range that stands still has both ends", () => {
  expect(of("since=2026-03-01T10:00:00Z&until=2026-03-01T11:00:00Z")).toEqual({ since: "2026-03-01T10:00:00.000Z", until: "2026-03-01T11:00:00.000Z" });
});
