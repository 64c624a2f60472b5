import { expect, test } from "vitest";
import type { Deployment, Ramp } from "./api";
import { done, takeEvents } from "./backtest";
import { actionsOf, consequence, lasts, stepsOf, waitsFor } from "./ramp";

const ramp = (changes: Partial<Ramp>): Ramp => ({
  version_id: "v2", baseline_version_id: "v1", deployment_id: "d3", step: 1, step_started_at: "2026-11-27T12:05:00Z", state: "running",
  steps: [{ percentage: 10, bake_seconds: 300, gate: "watched" }, { percentage: 25, bake_seconds: 600, gate: "manual" }, { percentage: 100, bake_seconds: 0, gate: "watched" }], ...changes,
});
const deployment = (id: string, created_on: string, share: number): Deployment =>
  ({ id, created_on, versions: [{ version_id: "v1", percentage: 100 - share }, { version_id: "v2", percentage: share }], annotations: {} }) as unknown as Deployment;

test("steps have the times of the deployments that led to the present one", () => {
  const list = [deployment("d4", "2026-11-27T12:30:00Z", 50), deployment("d3", "2026-11-27T12:05:00Z", 25), deployment("d2", "2026-11-27T12:00:00Z", 10), deployment("d1", "2026-11-27T11:00:00Z", 0), deployment("d0", "2026-11-27T10:00:00Z", 10)];
  const steps = stepsOf(ramp({}), list);
  expect(steps.map((s) => [s.place, s.began?.toISOString()])).toEqual([
    ["past", "2026-11-27T12:00:00.000Z"], ["now", "2026-11-27T12:05:00.000Z"], ["ahead", undefined],
  ]);
  expect(stepsOf(ramp({ deployment_id: "gone" }), list)[0]!.began).toBeUndefined();
});

// It was "done; began at an unknown time".
test("a step below the share at which a person began is left out", () => {
  const steps = [10, 20, 50, 100].map((percentage) => ({ percentage, bake_seconds: 0, gate: "watched" as const }));
  const began = ramp({ steps, step: 2, deployment_id: "d3" });
  const list = [deployment("d3", "2026-11-27T12:05:00Z", 50), deployment("d2", "2026-11-27T12:00:00Z", 20)];
  const first = { ...deployment("d1", "2026-11-27T11:00:00Z", 0), versions: [{ version_id: "v1", percentage: 100 }] };
  expect(stepsOf(began, [...list, first]).map((s) => s.place)).toEqual(["left out", "past", "now", "ahead"]);
  expect(stepsOf(began, list).map((s) => s.place)).toEqual(["past", "past", "now", "ahead"]); // what came before is not known
  expect(stepsOf(ramp({ steps, step: 2, deployment_id: "gone" }), [...list, first])[0]!.place).toBe("past");
});

// A step without a time was said to last "at least 0 ms".
test("a step lasts as long as was asked", () => {
  expect(lasts({ bakeSeconds: 300, gate: "watched" })).toBe("at least 5 min");
  expect(lasts({ bakeSeconds: 300, gate: "proven" })).toBe("at least 5 min, and until proven");
  expect(lasts({ bakeSeconds: 0, gate: "manual" })).toBe("until a person says so");
  expect(lasts({ bakeSeconds: 0, gate: "watched" })).toBe("");
  const timeless = ramp({ step: 0, steps: [{ percentage: 10, bake_seconds: 0, gate: "manual" }, { percentage: 100, bake_seconds: 0, gate: "watched" }] });
  expect(consequence("resume", timeless, "v2", "v1").text).toBe("v2 goes on at 10 %; only what comes from now on is judged.");
});

test("a ramp says what it waits for", () => {
  const now = new Date("2026-11-27T12:07:00Z");
  const f = (changes: Partial<Ramp>, want: string) => expect(waitsFor(ramp(changes), now)).toBe(want);
  f({}, "It stays at 25 % for 8 min more; then the step to 100 % is due.");
  f({ step_started_at: "2026-11-27T11:00:00Z" }, "The step to 100 % is due: the next look decides.");
  f({ reason: "waiting: a freeze" }, "Waiting: a freeze.");
  f({ state: "paused", reason: "paused by request" }, "Paused by request.");
  f({ state: "done", step: 2 }, "It has reached its last step. The version stays on trial without a ramp.");
  f({ state: "aborted", reason: "another deployment took over" }, "Another deployment took over.");
});

test("actions fit the state, and say what happens with the numbers", () => {
  expect(actionsOf(ramp({}))).toEqual(["pause", "skip", "abort"]);
  expect(actionsOf(ramp({ state: "paused" }))).toEqual(["resume", "skip", "abort"]);
  expect(actionsOf(ramp({ step: 2 }))).toEqual(["abort"]);
  expect(actionsOf(ramp({ state: "done", step: 2 }))).toEqual([]);
  const text = (action: Parameters<typeof consequence>[0], changes: Partial<Ramp> = {}) => consequence(action, ramp(changes), "v2", "v1").text;
  expect(text("skip", { step: 0 })).toContain("v2 gets 25 % of the requests instead of 10 %, and v1 keeps 75 %.");
  expect(text("skip")).toContain("v2 gets 100 % of the requests instead of 25 %, and v1 none.");
  expect(text("pause")).toContain("v2 stays at 25 %");
  expect(text("resume")).toContain("whole 10 min again");
  expect(text("abort")).toContain("v2 stays at 25 % of the requests, and no step follows");
});

test("events of a stream are taken whole, however they are cut", () => {
  const text = "event: progress\ndata: {\"at\":1}\n\n: beat\n\nevent: result\r\ndata: {\ndata: }\r\n\r\nevent: err";
  for (let cut = 0; cut <= text.length; cut++) {
    const first = takeEvents(text.slice(0, cut));
    const second = takeEvents(first.rest + text.slice(cut));
    expect([...first.events, ...second.events]).toEqual([{ name: "progress", data: "{\"at\":1}" }, { name: "result", data: "{\n}" }]);
    expect(second.rest).toBe("event: err");
  }
});

test("progress is a share", () => {
  expect(done({ since: "2026-11-27T12:00:00Z", until: "2026-11-27T14:00:00Z", at: "2026-11-27T12:30:00Z" })).toBe(0.25);
  expect(done({ since: "2026-11-27T12:00:00Z", until: "2026-11-27T12:00:00Z", at: "2026-11-27T12:00:00Z" })).toBe(0);
});
