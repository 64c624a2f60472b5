import { expect, test } from "vitest";
import { changed } from "./url";
import { parseRange } from "./range";

test("changes of an address keep what they do not name", () => {
  expect(changed("?a=1&b=2", { b: "3", c: "4" })).toBe("?a=1&b=3&c=4");
  expect(changed("?a=1", { a: undefined })).toBe("");
});

test("a range of an address is the one that was meant, or the last hour", () => {
  const now = new Date("2026-03-01T12:00:00Z");
  const f = (search: string, since: string, until: string, last: number | undefined) => {
    const parameters = new URLSearchParams(search);
    expect(parseRange((n) => parameters.get(n) ?? undefined, now)).toEqual({ since: new Date(since), until: new Date(until), last });
  };
  f("", "2026-03-01T11:00:00Z", "2026-03-01T12:00:00Z", 3600);
  f("last=300", "2026-03-01T11:55:00Z", "2026-03-01T12:00:00Z", 300);
  f("last=-1", "2026-03-01T11:00:00Z", "2026-03-01T12:00:00Z", 3600);
  f("since=2026-03-01T01:00:00Z&until=2026-03-01T02:00:00Z", "2026-03-01T01:00:00Z", "2026-03-01T02:00:00Z", undefined);
  f("since=2026-03-01T02:00:00Z&until=2026-03-01T01:00:00Z", "2026-03-01T11:00:00Z", "2026-03-01T12:00:00Z", 3600);
});
