import { expect, test } from "vitest";
import type { Schemas } from "../../api/client";
import { recentRate, recentSpan, versionRates } from "./rates";

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
});

test("nothing is zero before it is known", () => {
  const got = versionRates([{ id: "v1", share: 100_000 }], undefined);
  expect(got).toEqual([{ id: "v1", share: 100_000, perSecond: undefined, failures: undefined, failureRate: undefined, p99: undefined }]);
});

test("the present rate is that of the last minutes, and of a young script since its first deployment", () => {
  const now = new Date("2026-03-01T12:00:05Z"); // the newest seconds are not counted yet
  const deployed = (...times: string[]) => times.map((t) => ({ created_on: `2026-03-01T${t}Z` }));
  const iso = (span: ReturnType<typeof recentSpan>) => span && [span.since.toISOString().slice(11, 19), span.until.toISOString().slice(11, 19), span.when];
  expect(iso(recentSpan(deployed("11:59:30", "10:00:00"), now))).toEqual(["11:55:00", "12:00:00", "in the last 5 minutes"]);
  expect(iso(recentSpan(deployed("11:59:30", "11:58:30"), now))).toEqual(["11:58:30", "12:00:00", "in the 1 min 30 s since the first deployment"]);
  expect(iso(recentSpan(deployed(...new Array<string>(100).fill("11:59:30")), now)), "older ones are not listed").toEqual(["11:55:00", "12:00:00", "in the last 5 minutes"]);
  expect(recentSpan(deployed("11:59:58"), now)).toBeUndefined();
  expect(recentSpan([], now)).toBeUndefined();
  expect(recentRate(metrics, recentSpan(deployed("11:58:30"), now)!)).toEqual({ perSecond: 5, when: "in the 1 min 30 s since the first deployment" });
});
