import { expect, test } from "vitest";
import { newPolicy } from "./draft";
import { chance, counts, factor, lag, lies, linesOf, seen, stateOf, strength, watch, type Evidence, type Trial } from "./evidence";

const evidence = (changes: Partial<Evidence>): Evidence => ({ metric: "max_failure_ratio", limit: 1, log_e: 0, threshold: Math.log(1000), p_value: 1, trials: 0, events: 0, expected: 0, ...changes });
const trial = (changes: Partial<Trial>): Trial => ({ version_id: "v2", baseline_version_id: "v1", since: "2026-11-27T12:00:00Z", verdict: "pass", sentence: "", numbers: {}, evidence: [evidence({})], ...changes });

test("evidence is a factor, of what it takes", () => {
  expect(strength(evidence({ log_e: Math.log(4.1) }))).toBe("4.1 of 1,000 needed");
  expect(factor(Math.log(1234.4))).toBe("1,234");
  expect(factor(-3)).toBe("0.05");
  expect(factor(5000)).toBe("over 1 billion");
});

// As in cmd/tidegate/policydecisions_test.go.
test("a chance is what the command line says, and never smaller than it is", () => {
  const f = (p: number, want: string) => expect(chance(p)).toBe(want);
  f(1, "100\u00a0%");
  f(0.25, "25\u00a0%");
  f(0.1234, "13\u00a0%");
  f(0.0999, "1 in 10");
  f(0.05, "1 in 20");
  f(1 / 36.6, "1 in 36");
  f(0.001, "1 in 1,000");
  f(1 / 3234.4, "1 in 3,230");
  f(0.00025, "1 in 4,000");
  f(1 / 1239999, "1 in 1,230,000");
  f(1e-9, "1 in 1,000,000,000");
  f(1e-12, "below 1 in 1,000,000,000");
  f(0, "below 1 in 1,000,000,000");
});

test("numbers that are not known are not zero", () => {
  expect(counts({ requests: 8120, failures: 12, failure_rate: 12 / 8120, baseline_requests: 9050, baseline_failures: 3, baseline_failure_rate: 3 / 9050 }))
    .toBe("12 of 8,120 failed (0.15 %); of the baseline 3 of 9,050 failed (0.033 %)");
  expect(counts({ requests: 10, failures: 0, failure_rate: 0 })).toBe("0 of 10 failed (0 %); of the baseline no request was counted beside it");
  expect(counts({})).toContain("no request was counted yet");
});

test("what was seen names what the trials of its limit are", () => {
  const f = (metric: string, want: string, blocks = false) => expect(seen(evidence({ metric, trials: 15, events: 12, expected: 7.13 }), blocks)).toBe(`${want}, at most 7.1 were to be expected if the limit is kept`);
  f("max_failure_ratio", "12 of 15 failures of both versions were its own");
  f("max_failure_rate", "12 of 15 requests failed");
  f("max_p99_wall_ms", "12 of 15 measured requests took longer than the limit");
  f("max_p99_cpu_ms", "12 of 15 measured requests used more CPU time than the limit");
  f("max_p50_wall_ratio", "12 of 15 slow requests of both versions were its own");
  f("min_traffic_ratio", "12 of 15 answered requests were the baseline’s");
  f("max_failure_ratio", "12 of what 15 blocks could weigh speaks against it", true);
});

test("what is limited lies between its bounds, rounded outwards", () => {
  const f = (metric: string, low: number | undefined, high: number | undefined, want: string) => expect(lies({ metric, ...(low === undefined ? {} : { low }), ...(high === undefined ? {} : { high }) })).toBe(want);
  f("max_failure_ratio", 1.87, 5.21, "1.8 to 5.3 times the baseline’s");
  f("max_failure_ratio", 0.999, undefined, "at least 0.99 times the baseline’s");
  f("max_failure_ratio", undefined, 2345, "at most 2,400 times the baseline’s");
  f("max_failure_rate", 0.0121, 0.03, "1.2 % to 3 %");
  f("max_failure_rate", 0.02, 0.0037, "at least 2 % and at most 0.37 % in turn"); // it was good, and turned bad
  f("max_failure_rate", undefined, 0.999, "at most 100 %");
  f("min_traffic_ratio", undefined, 0.412, "at most 42.0 %");
  f("max_p99_wall_ms", undefined, undefined, "–");
});

test("a trial says where it stands and what it waits for", () => {
  const f = (t: Partial<Trial>, word: string, next: string, enabled = true, policy = newPolicy, alone = false) => {
    const state = stateOf(trial(t), enabled, policy, alone);
    expect(state.word).toBe(word);
    expect(state.next).toContain(next);
  };
  const strong = Math.log(2000);
  f({}, "Nothing found", "stays on trial");
  f({}, "Not watched", "switched off", false);
  f({ verdict: "inconclusive", sentence: "12 of the 20 requests that are needed" }, "Waiting", "12 of the 20 requests that are needed");
  f({ verdict: "fail", metric: "max_failure_rate" }, "Fails", "The limit of failure rate is passed. The version is being rolled back.");
  f({ verdict: "fail", metric: "max_failure_rate" }, "Fails", "until a person acts", true, { ...newPolicy, action: "notify" });
  f({ evidence: [evidence({}), evidence({ metric: "max_p99_wall_ms", log_e: Math.log(25) })] }, "Suspicious", "against p99 wall time, 25 of 1,000 needed");
  f({ numbers: { requests: 5 }, evidence: [evidence({ log_e: strong, events: 4 })] }, "Held back", "only 5 of the 20 requests");
  f({ numbers: { requests: 50 }, evidence: [evidence({ log_e: strong, events: 2 })] }, "Held back", "only 2 requests speak against it");
  f({ numbers: { requests: 50 }, evidence: [evidence({ log_e: strong, events: 4 })] }, "Held back", "not yet", true, { ...newPolicy, min_failure_difference: 0.01 });
  // Beside a version at 100 % it waited for requests of the baseline, for ever.
  const beside: Partial<Trial> = { verdict: "inconclusive", numbers: { requests: 60 }, sentence: "the baseline gets no requests in this deployment" };
  f(beside, "Not compared", "The baseline gets no requests in this deployment.", true, newPolicy, true);
  f(beside, "Waiting", "Waits for requests", true, newPolicy, false);
  f({ ...beside, numbers: { requests: 3 } }, "Waiting", "Waits for requests", true, newPolicy, true);
  f({ ...beside, evidence: [evidence({ metric: "max_failure_rate" })] }, "Waiting", "Waits for requests", true, newPolicy, true);
});

// A policy that could judge nothing had a green "On".
test("a policy that can judge nothing is not just on", () => {
  expect(watch(true, undefined)).toEqual(["On", "good"]);
  expect(watch(true, "there is no version to go back to")).toEqual(["On, but judges nothing", "warn"]);
  expect(watch(false, "there is no version to go back to")).toEqual(["Off", "warn"]);
});

test("lag is what the newest counted request tells", () => {
  const at = "2026-11-27T12:10:00Z";
  const f = (heard: string | undefined, beside: string | undefined, want: string) => expect(lag({ ...(heard ? { heard_on: heard } : {}), ...(beside ? { baseline_heard_on: beside } : {}) }, at).text).toContain(want);
  f(undefined, undefined, "No request of either version");
  f(undefined, at, "No request of this version was counted yet");
  f("2026-11-27T12:10:01Z", at, "Counts are less than a second behind.");
  f("2026-11-27T12:09:57Z", at, "Counts are 3 s behind.");
  f("2026-11-27T12:07:00Z", at, "for 3 min");
  f(at, "2026-11-27T12:07:00Z", "of the baseline is 3 min old");
  expect(lag({ heard_on: "2026-11-27T12:07:00Z", baseline_heard_on: at }, at).late).toBe(true);
  expect(lag({ heard_on: at }, at)).toEqual({ text: "Counts are less than a second behind.", late: false });
});

test("lines share their times, keep their value between points, and end at the edge", () => {
  const at = (s: number) => new Date(s * 1000).toISOString();
  const lines = linesOf([
    evidence({ metric: "max_p99_wall_ms", series: [{ at: at(10), log_e: 0 }, { at: at(30), log_e: 5000 }] }),
    evidence({ metric: "max_failure_rate", series: [{ at: at(20), log_e: Math.log(0.05) }] }),
  ])!;
  expect(lines.times).toEqual([10, 20, 30]);
  expect(lines.lines.map((l) => l.name)).toEqual(["failure rate", "p99 wall time"]); // in the order of a policy
  expect(lines.lines[0]!.values[0]).toBeNull();
  expect(lines.lines[0]!.values[2]).toBeCloseTo(0.05);
  expect(lines.lines[1]!.values[1]).toBe(1);
  expect(lines.lines[1]!.values[2]).toBeCloseTo(lines.most);
  expect([lines.threshold, lines.least]).toEqual([expect.closeTo(1000), expect.closeTo(0.01)]);
  expect(linesOf([])).toBeUndefined();
});
