import { expect, test } from "vitest";
import { author, candidate, cause, entries, former, next, takenBack, type Decision, type Deployment } from "./history";

function deployment(id: string, splits: Record<string, number>, also: Partial<Deployment> = {}): Deployment {
  return {
    id, created_on: "2026-03-01T12:00:00.000000Z", source: "api", author_email: "", strategy: "percentage", annotations: {},
    code_update_strategy: { mode: "deferred", max_delay: 300 } as Deployment["code_update_strategy"],
    versions: Object.entries(splits).map(([version_id, percentage]) => ({ version_id, percentage })), ...also,
  };
}

test("each deployment knows what it replaced and which decision made it", () => {
  const list = [deployment("c", { v1: 100 }), deployment("b", { v1: 90, v2: 10 }), deployment("a", { v1: 100 })];
  const decision = { id: "x", to_deployment: "c" } as Decision;
  const got = entries(list, [decision, { id: "y" } as Decision]);
  expect(got.map((e) => [e.deployment.id, e.before?.id, e.decision?.id, e.serving])).toEqual([["c", "b", "x", true], ["b", "a", undefined, false], ["a", undefined, undefined, false]]);
});

test("back leads to the version that had all traffic before", () => {
  const f = (list: Deployment[], want: string | undefined) => expect(former(list)).toBe(want);
  f([], undefined);
  f([deployment("a", { v1: 100 })], undefined);
  f([deployment("b", { v2: 100 }), deployment("a", { v1: 100 })], "v1");
  f([deployment("c", { v1: 90, v2: 10 }), deployment("b", { v1: 100 }), deployment("a", { v0: 100 })], "v1");
  f([deployment("c", { v2: 100 }), deployment("b", { v1: 50, v2: 50 }), deployment("a", { v1: 100 })], "v1");
  f([deployment("c", { v1: 100 }), deployment("b", { v1: 50, v2: 50 }), deployment("a", { v1: 100 })], undefined);
  f([deployment("c", { v1: 50, v2: 50 }), deployment("a", { v0: 100 })], undefined); // nobody knows which of the two was first
  f([deployment("b", { v1: 100, v2: 0 }), deployment("a", { v1: 100 })], undefined);
});

test("the version on its way is the one that back does not lead to", () => {
  const number = (id: string): number => Number(id.slice(1));
  const f = (splits: Record<string, number>, back: string | undefined, want: string | undefined) => expect(candidate(deployment("a", splits).versions, back, number)).toBe(want);
  f({ v1: 100 }, undefined, undefined);
  f({ v1: 90, v2: 10 }, "v1", "v2");
  f({ v1: 90, v2: 10 }, "v2", "v1");
  f({ v1: 50, v2: 50 }, undefined, "v2");
  f({ v1: 100, v2: 0 }, undefined, "v2");
});

const number = (id: string): number => Number(id.slice(1));

test("a version was taken back when older ones got its traffic", () => {
  const f = (list: Deployment[], want: string[]) => expect([...takenBack(list, number)]).toEqual(want);
  f([], []);
  f([deployment("a", { v1: 100 })], []);
  f([deployment("b", { v2: 100 }), deployment("a", { v1: 100 })], []);
  f([deployment("b", { v1: 90, v2: 10 }), deployment("a", { v1: 100 })], []);
  f([deployment("c", { v1: 100 }), deployment("b", { v1: 90, v2: 10 }), deployment("a", { v1: 100 })], ["v2"]);
  f([deployment("c", { v1: 100, v2: 0 }), deployment("b", { v1: 90, v2: 10 })], ["v2"]);
  f([deployment("d", { v3: 100 }), deployment("c", { v1: 100 }), deployment("b", { v1: 90, v2: 10 })], []); // v3 came after it
});

test("what is promoted next was not just rolled back", () => {
  const f = (list: Deployment[], uploaded: string[], want: string | undefined) => expect(next(list, uploaded.map((id) => ({ id, number: number(id) })), number)).toBe(want);
  const before = [deployment("b", { v1: 90, v2: 10 }), deployment("a", { v1: 100 })];
  f([], [], undefined);
  f([], ["v1"], "v1");
  f([deployment("a", { v1: 100 })], ["v2", "v1"], "v2");
  f(before, ["v2", "v1"], "v2");
  f([deployment("c", { v1: 100 }), ...before], ["v2", "v1"], "v1");
  f([deployment("c", { v1: 100 }), ...before], ["v2", "v1", "v0"], "v1");
  f([deployment("c", { v1: 100 }), ...before], ["v3", "v2", "v1"], "v3");
  f([deployment("c", { v1: 100 }), deployment("b", { v1: 90, v3: 10 })], ["v3", "v2", "v1"], "v2"); // which was never tried
  f([deployment("c", { v1: 90, v2: 10 }), deployment("b", { v1: 90, v3: 10 })], ["v3", "v2", "v1"], "v2");
  f([deployment("d", { v3: 100 }), deployment("c", { v1: 100 }), ...before], ["v3", "v2", "v1"], "v3"); // nothing is newer
  f([deployment("c", { v2: 100, v1: 0 }), ...before], ["v2", "v1"], "v2");
  f([deployment("a", { v1: 100, v2: 0 })], ["v2", "v1"], "v2");
});

test("who and why are never empty where something is known", () => {
  expect(author(deployment("a", {}, { author_email: "ann@example.com" }))).toBe("ann@example.com");
  expect(author(deployment("a", {}))).toBe("api");
  expect(cause(deployment("a", {}, { annotations: { "workers/triggered_by": "deployment" } }))).toBe("deployed");
  expect(cause(deployment("a", {}, { annotations: { "workers/triggered_by": "something new" } }))).toBe("something new");
});
