import { expect, test } from "vitest";
import { draftOf, errorAt, newPolicy, policyOf, same } from "./draft";
import type { Settings } from "./limits";

const whole: Settings = {
  enabled: true, max_failure_rate: 0.07, max_failure_ratio: 1.5, min_failure_difference: 0.0005, max_p50_wall_ms: 10, max_p90_wall_ms: 20.5, max_p99_wall_ms: 30,
  max_p50_wall_ratio: 1.1, max_p90_wall_ratio: 1.2, max_p99_wall_ratio: 1.3, max_p99_cpu_ms: 40, max_p99_cpu_ratio: 1.4, min_traffic_ratio: 0.9,
  min_requests: 100, look_back_seconds: 600, confidence: 0.9999, grace_seconds: 30, count: "exceptions", evidence: "blocks", block_seconds: 60, action: "pause",
  ramp: [{ percentage: 12.5, bake_seconds: 60, gate: "proven" }, { percentage: 100, bake_seconds: 0, gate: "watched" }],
  notify: [{ type: "webhook", url: "https://ci.example.com/***1a2b3c4d", secret: "***", on: ["rollback"] }, { type: "email", to: ["a@example.com", "b@example.com"] }],
  promote: [{ days: ["mon"], from: "09:00", until: "16:00", time_zone: "Europe/Berlin" }, { from: "00:00", until: "24:00" }],
  freeze: [{ from: "2026-12-24T00:00:00Z", until: "2026-12-27T00:00:00+01:00", reason: "holidays" }],
};

test("what is not touched is sent back as it came", () => {
  for (const p of [whole, newPolicy]) expect(policyOf(draftOf(p))).toEqual({ policy: p, errors: {} });
  expect(same(whole, structuredClone(whole))).toBe(true);
  expect(same(whole, { ...whole, min_requests: 101 })).toBe(false);
  const older = { percentage: 10, bake_seconds: 0 } as NonNullable<Settings["ramp"]>[number]; // from before there were gates
  expect(same({ ...newPolicy, ramp: [older] }, { ...newPolicy, ramp: [{ percentage: 10, bake_seconds: 0, gate: "watched" }] })).toBe(true);
});

test("an empty field is a default, or no limit", () => {
  const draft = draftOf(whole);
  draft.numbers = Object.fromEntries(Object.keys(draft.numbers).map((m) => [m, " "])) as typeof draft.numbers;
  const { policy } = policyOf(draft);
  expect(policy).toMatchObject({ max_failure_ratio: 1, min_requests: 20, look_back_seconds: 300, confidence: 0.999, grace_seconds: 0, block_seconds: 10 });
  expect(policy.max_failure_rate).toBeUndefined();
  expect(policy.min_failure_difference).toBeUndefined();
});

test("settings that do not go with another one are left out with it", () => {
  const draft = draftOf(whole);
  draft.evidence = "requests";
  draft.numbers.max_failure_ratio = "";
  const { policy } = policyOf(draft);
  expect(policy.block_seconds).toBeUndefined();
  expect(policy.min_failure_difference).toBeUndefined();
});

test("what is no number is told at its field", () => {
  const draft = draftOf(whole);
  draft.numbers.confidence = "very";
  draft.ramp[1]!.percentage = "all";
  expect(policyOf(draft).errors).toEqual({ "/confidence": "“very” is not a number", "/ramp/1/percentage": "“all” is not a number" });
});

test("an error is found at its member and in it", () => {
  const errors = { "/notify/0/to/1": "bad", "/ramp": "too many" };
  expect(errorAt(errors, "/notify/0/to")).toBe("bad");
  expect(errorAt(errors, "/notify/0/t")).toBeUndefined();
  expect(errorAt(errors, "/ramp")).toBe("too many");
  expect(errorAt(errors, "/ram")).toBeUndefined();
});
