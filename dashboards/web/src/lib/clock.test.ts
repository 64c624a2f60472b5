import { afterEach, expect, test, vi } from "vitest";
import { send } from "../api/client";
import { hearClock, serverNow } from "./clock";
import { parseRange, rangeQuery } from "./range";

const server = Date.parse("2026-03-01T12:00:00Z");

afterEach(() => {
  hearClock(new Date(Date.now()).toUTCString(), Date.now(), Date.now()); // agree again
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

/** An answer made at the server's time while the browser's clock, which is off by `skew`, shows another. */
async function answerWith(skew: number, date: string | undefined): Promise<void> {
  vi.useFakeTimers({ now: server + skew });
  vi.stubGlobal("fetch", async () => new Response("{}", date === undefined ? {} : { headers: { Date: date } }));
  await send("GET", "/client/v4/user");
}

test("a browser whose clock is wrong asks for a range that ends at the server's now", async () => {
  for (const skew of [10 * 60_000, -10 * 60_000, 26 * 3_600_000, -26 * 3_600_000]) {
    await answerWith(skew, "Sun, 01 Mar 2026 12:00:00 GMT");
    const { since, until } = rangeQuery(parseRange((name) => (name === "last" ? "900" : undefined), serverNow()));
    expect(Math.abs(Date.parse(since) - (server - 900_000)), `off by ${skew}`).toBeLessThanOrEqual(1000);
    expect(until).toBeUndefined();
    vi.useRealTimers();
  }
});

test("a clock that agrees is left alone", async () => {
  for (const skew of [0, 400, 999]) {
    await answerWith(skew, "Sun, 01 Mar 2026 12:00:00 GMT");
    expect(serverNow().getTime(), `${skew}`).toBe(server + skew);
    vi.useRealTimers();
  }
});

test("an answer that was long under way says no more than it can", () => {
  vi.useFakeTimers({ now: server + 30_000 });
  hearClock("Sun, 01 Mar 2026 12:00:05 GMT", server, server + 30_000);
  expect(serverNow().getTime()).toBe(server + 30_000);
});

test("an answer without a time changes nothing", async () => {
  await answerWith(60_000, "Sun, 01 Mar 2026 12:00:00 GMT");
  const before = serverNow().getTime();
  await send("GET", "/client/v4/user");
  hearClock("yesterday", Date.now(), Date.now());
  hearClock(null, Date.now(), Date.now());
  expect(serverNow().getTime()).toBe(before);
});
