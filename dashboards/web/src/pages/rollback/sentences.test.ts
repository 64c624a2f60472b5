import { expect, test } from "vitest";
import { newPolicy } from "./draft";
import { limits, type Settings } from "./limits";
import { difference, explain, falseAlarms } from "./sentences";

const policy = (changes: Partial<Settings>): Settings => ({ ...newPolicy, max_failure_ratio: undefined, ...changes }) as Settings;
const words = (p: Settings): string => explain(p).flatMap((t) => [t.title, ...t.sentences]).join("\n").replaceAll("\u00a0", " ");

// Every setting of a policy, and what must be said of it.
const said: [changes: Partial<Settings>, ...sentences: string[]][] = [
  [{ enabled: false }, "Nothing is watched"],
  [{ max_failure_rate: 0.1, action: "rollback" }, "Roll back when", "all traffic goes to the version that last had all of it"],
  [{ max_failure_rate: 0.1, action: "pause" }, "Hold the ramp when", "a person decides"],
  [{ max_failure_rate: 0.1, action: "notify" }, "Tell when", "stays where it is"],
  [{ max_failure_ratio: 1 }, "It fails more often than the baseline in the same seconds."],
  [{ max_failure_ratio: 1.5 }, "It fails more than 1.5 times as often as the baseline in the same seconds."],
  [{ max_failure_ratio: 2, min_failure_difference: 0.001 }, "and its failure rate is at least 0.1 % of all requests higher."],
  [{ max_failure_rate: 0.0005 }, "More than 0.05 % of its requests fail."],
  [{ max_p50_wall_ms: 80 }, "Its p50 wall time is above 80 ms."],
  [{ max_p90_wall_ms: 250.5 }, "Its p90 wall time is above 250.5 ms."],
  [{ max_p99_wall_ms: 12000 }, "Its p99 wall time is above 12,000 ms."],
  [{ max_p50_wall_ratio: 1 }, "Its p50 wall time is above the baseline’s."],
  [{ max_p90_wall_ratio: 1.2 }, "Its p90 wall time is above 1.2 times the baseline’s."],
  [{ max_p99_wall_ratio: 2 }, "Its p99 wall time is above 2 times the baseline’s."],
  [{ max_p99_cpu_ms: 50 }, "Its p99 CPU time is above 50 ms."],
  [{ max_p99_cpu_ratio: 3 }, "Its p99 CPU time is above 3 times the baseline’s."],
  [{ min_traffic_ratio: 0.9 }, "It answers less than 90 % of the requests that its percentage promises."],
  [{ max_failure_rate: 0.1, count: "exceptions" }, "A failure is a request that throws or exceeds a limit, whatever its status."],
  [{ max_failure_rate: 0.1, count: "status_5xx" }, "A failure is a request that is answered with 5xx."],
  [{ max_failure_rate: 0.1, count: "any" }, "A failure is a request that throws, exceeds a limit or is answered with 5xx."],
  [{ max_failure_rate: 0.1, confidence: 0.999 }, "At most 1 false alarm in 1,000 deployments", "keeps the limit"],
  [{ max_failure_rate: 0.1, max_p99_wall_ms: 9, confidence: 0.99 }, "At most 1 false alarm in 100 deployments", "keeps all 2 limits"],
  [{}, "It names no limit, and so it acts on nothing."],
  [{ max_failure_rate: 0.1, min_requests: 1 }, "before a version had 1 request and 3"],
  [{ max_failure_rate: 0.1, min_requests: 5000 }, "before a version had 5,000 requests and 3"],
  [{ max_failure_rate: 0.1, look_back_seconds: 900 }, "begin anew every 15 min"],
  [{ max_failure_rate: 0.1, grace_seconds: 90 }, "The first 1 min 30 s after"],
  [{ max_failure_rate: 0.1, evidence: "requests" }, "Each request counts for itself"],
  [{ max_failure_rate: 0.1, evidence: "blocks", block_seconds: 30 }, "each block of 30 s counts once"],
  [{ ramp: [] }, "There is no ramp"],
  [{ ramp: [{ percentage: 10, bake_seconds: 300, gate: "watched" }, { percentage: 50, bake_seconds: 0, gate: "manual" }, { percentage: 75, bake_seconds: 60, gate: "proven" }, { percentage: 100, bake_seconds: 0, gate: "watched" }] },
    "10 % for at least 5 min, then 50 % for as long as it takes to see enough requests and until a person says so, then 75 % for at least 1 min and until it is proven to keep every ratio, then 100 %."],
  [{ ramp: [{ percentage: 10, bake_seconds: 300, gate: "watched" }], promote: [{ days: ["mon", "fri"], from: "09:00", until: "16:00", time_zone: "Europe/Berlin" }, { from: "22:00", until: "02:00" }] },
    "It grows only on Mondays and Fridays from 09:00 to 16:00 (Europe/Berlin), or every day from 22:00 to 02:00 of the next day (UTC).", "Hours hold up no rollback"],
  [{ ramp: [{ percentage: 10, bake_seconds: 300, gate: "watched" }], freeze: [{ from: "2026-12-24T00:00:00Z", until: "2026-12-27T00:00:00Z", reason: "holidays" }] }, "It does not grow from 2026-12-2", ": holidays."],
  [{ notify: [] }, "Nobody is told"],
  [{ notify: [{ type: "webhook", url: "https://ci.example.com/hooks/x", secret: "***" }] }, "The webhook at ci.example.com is told of everything but single steps of a ramp; the message is signed."],
  [{ notify: [{ type: "slack", url: "https://hooks.slack.com/services/x", on: ["rollback", "pause"] }] }, "The Slack channel at hooks.slack.com is told of a rollback and a ramp that is held."],
  [{ notify: [{ type: "alertmanager", url: "https://alerts.example.com", on: ["error"] }] }, "The Alertmanager at alerts.example.com is told of numbers that could not be read."],
  [{ notify: [{ type: "email", to: ["a@example.com", "b@example.com"], on: ["fail", "promote", "done"] }] }, "a@example.com and b@example.com are told of a bad version that nothing was done about, a step of a ramp and the end of a ramp."],
  [{ notify: [{ type: "webhook", url: "https:/" }] }, "The webhook at an address that is missing"],
];

test.each(said)("%j is said", (changes, ...sentences) => {
  const text = words(policy(changes));
  for (const s of sentences) expect(text).toContain(s);
});

test("every setting is in the table above, and changes what is said", () => {
  const tried = new Set(said.flatMap(([changes]) => Object.keys(changes)));
  const settings: Record<keyof Settings, true> = {
    enabled: true, max_failure_rate: true, max_failure_ratio: true, min_failure_difference: true, max_p50_wall_ms: true, max_p90_wall_ms: true, max_p99_wall_ms: true,
    max_p50_wall_ratio: true, max_p90_wall_ratio: true, max_p99_wall_ratio: true, max_p99_cpu_ms: true, max_p99_cpu_ratio: true, min_traffic_ratio: true, min_requests: true,
    look_back_seconds: true, confidence: true, grace_seconds: true, count: true, evidence: true, block_seconds: true, action: true, ramp: true, notify: true, promote: true, freeze: true,
  };
  expect([...tried].sort()).toEqual(Object.keys(settings).sort());
  for (const l of limits) expect(words(policy({ [l.member]: 2 }))).not.toBe(words(policy({})));
});

test("the promise is never said to be better than it is", () => {
  const f = (confidence: number, want: string) => expect(falseAlarms(confidence).replaceAll("\u00a0", " ")).toBe(want);
  f(0.999, "At most 1 false alarm in 1,000 deployments");
  f(0.999999, "At most 1 false alarm in 1,000,000 deployments");
  f(0.97, "At most 1 false alarm in 33 deployments");
  f(0.95, "At most 1 false alarm in 20 deployments");
  f(0.9, "False alarms in at most 10 % of deployments");
});

test("a difference names what is said no more and what is new, and nothing else", () => {
  const before = policy({ max_failure_ratio: 1, min_requests: 20 });
  const { gone, come } = difference(before, { ...before, min_requests: 100 });
  expect([gone.length, come.length]).toEqual([1, 1]);
  expect(gone[0]).toContain("20 requests");
  expect(come[0]).toContain("100 requests");
  expect(difference(before, before)).toEqual({ gone: [], come: [] });
});
