import { expect, test } from "vitest";
import type { Schemas } from "../../api/client";
import { totalRate, versionRates } from "./rates";

const status = { "2xx": 0, "3xx": 0, "4xx": 0, "5xx": 0, none: 0 };
const rates = (version_id: string, requests: number) => ({ version_id, requests, failures: 6, failure_rate: 6 / requests, assigned: 0, assigned_failures: 0, exceptions: 0, status, wall_ms: { p50: 1, p90: 2, p99: 3 } });
const metrics = {
  since: "2026-03-01T12:00:00.000000Z", until: "2026-03-01T12:02:30.000000Z", step_seconds: 60,
  versions: [rates("v2", 300), rates("old", 150)],
  series: [],
} as unknown as Schemas["Metrics"];

test("versions that serve come first, by their share, and after them those that left", () => {
  const got = versionRates([{ id: "v2", share: 10_000 }, { id: "v1", share: 90_000 }], metrics);
  expect(got.map((r) => [r.id, r.share, r.perSecond, r.failures, r.p99])).toEqual([["v1", 90_000, 0, 0, undefined], ["v2", 10_000, 2, 6, 3], ["old", undefined, 1, 6, 3]]);
  expect(got[0]!.failureRate).toBeUndefined(); // of no requests
  expect(totalRate(got)).toBe(3);
});

test("nothing is zero before it is known", () => {
  const got = versionRates([{ id: "v1", share: 100_000 }], undefined);
  expect(got).toEqual([{ id: "v1", share: 100_000, perSecond: undefined, failures: undefined, failureRate: undefined, p99: undefined }]);
  expect(totalRate(got)).toBeUndefined();
});
