import { describe, expect, it } from "vitest";
import { edgesOf, isSkewed, pairAt, worstOf, type Pair } from "./matrix";

const pair = (caller: [string, string] | undefined, callee: [string, string], requests: number, failures: number): Pair => ({
  ...(caller && { caller: { script: caller[0], version_id: caller[1] } }),
  callee: { script: callee[0], version_id: callee[1] }, requests, failures, failure_rate: failures / requests, last_seen: "2026-01-01T00:00:00.000000Z",
});

const pairs = [
  pair(["front", "f1"], ["stock", "s1"], 100, 1), pair(["front", "f1"], ["stock", "s2"], 10, 5), pair(["front", "f2"], ["stock", "s2"], 20, 0),
  pair(undefined, ["stock", "s1"], 500, 0), pair(["front", "f1"], ["mail", "m1"], 7, 7),
];

describe("edgesOf", () => {
  const edges = edgesOf(pairs);
  it("groups by scripts, and keeps unknown callers apart", () => {
    expect(edges.map((e) => [e.caller, e.callee, e.requests, e.failures, e.callers.length, e.callees.length])).toEqual([
      [undefined, "stock", 500, 0, 1, 1], ["front", "stock", 130, 6, 2, 2], ["front", "mail", 7, 7, 1, 1],
    ]);
  });
  it("finds pairs, also those that never met", () => {
    const [rpc, stock] = edges as [typeof edges[0], typeof edges[0]];
    expect(pairAt(stock!, stock!.callers[1], stock!.callees[1]!)?.requests).toBe(20);
    expect(pairAt(stock!, stock!.callers[1], stock!.callees[0]!)).toBeUndefined();
    expect(pairAt(rpc!, undefined, rpc!.callees[0]!)?.requests).toBe(500);
  });
  it("tells skew, and which pair fails most", () => {
    expect(edges.map(isSkewed)).toEqual([false, true, false]);
    expect(edges.map((e) => worstOf(e)?.requests)).toEqual([undefined, 10, undefined]);
  });
});
