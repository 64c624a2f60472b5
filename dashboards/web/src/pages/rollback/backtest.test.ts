import { expect, test } from "vitest";
import { avoided, avoidedInAll, secondsBetween, tooNew, verdict } from "./backtest";

test("a length fits the times that stand beside it", () => {
  expect(secondsBetween("2026-11-27T04:01:48.2Z", "2026-11-27T04:01:50.9Z")).toBe(2);
  expect(secondsBetween("2026-11-27T04:01:48.9Z", "2026-11-27T04:01:49.1Z")).toBe(1);
});

test("what is avoided is never said to be less than nothing", () => {
  expect(avoided(-3)).toBe("avoided no failed request");
  expect(avoided(0.9)).toBe("avoided no failed request");
  expect(avoided(1.2)).toBe("avoided about 1 failed request");
  expect(avoided(1234.5)).toBe("avoided about 1,235 failed requests");
});

test("a trial is told in whole sentences", () => {
  const trial = { since: "2026-11-27T04:01:48Z", failed_at: "2026-11-27T04:01:51Z", metric: "max_failure_ratio", sentence: "after 52 requests: 8 failures (15.4 %) against 0 % on the baseline" };
  expect(verdict({ ...trial, failures_saved: 0 })).toEqual([
    "It would have acted after 3 s, because of the failures against the baseline.",
    "After 52 requests: 8 failures (15.4 %) against 0 % on the baseline.",
    "It would have avoided no failed request: from then on the version failed no more than the baseline.",
  ]);
  expect(verdict({ ...trial, failures_saved: 12, failed_at: "2026-11-27T04:01:48.5Z" }).at(-1)).toBe("It would have avoided about 12 failed requests.");
  expect(verdict(trial).at(-1)).toBe("How many failed requests that would have avoided is not known: too little is known of the baseline.");
  expect(verdict({ since: trial.since, failures_saved: 0 })).toEqual([]);
});

test("what is not known is neither in the sum nor told as nothing", () => {
  expect(avoidedInAll({ failures_saved: 12.4, failures_saved_unknown: 0 }, 3)).toBe(", and avoided about 12 failed requests");
  expect(avoidedInAll({ failures_saved: 0, failures_saved_unknown: 0 }, 0)).toBe(", and avoided no failed request");
  expect(avoidedInAll({ failures_saved: 12.4, failures_saved_unknown: 1 }, 3)).toBe(", and avoided about 12 failed requests in 2 of them; how many in the rest is not known");
  expect(avoidedInAll({ failures_saved: 0, failures_saved_unknown: 2 }, 3)).toBe(", and avoided no failed request in 1 of them; how many in the rest is not known");
  expect(avoidedInAll({ failures_saved_unknown: 2 }, 2)).toBe("; how many failed requests that would have avoided is not known");
});

test("a deployment that no replay reaches yet is told from a time without trials", () => {
  const result = { until: "2026-11-27T04:00:00Z" };
  expect(tooNew(result, { created_on: "2026-11-27T04:00:30.5Z" })).toBe("2026-11-27T04:00:30.5Z");
  expect(tooNew(result, { created_on: "2026-11-27T05:00:30+01:00" })).toBe("2026-11-27T05:00:30+01:00");
  expect(tooNew(result, { created_on: "2026-11-27T03:59:59.9Z" })).toBeUndefined();
  expect(tooNew(result, undefined)).toBeUndefined();
});
