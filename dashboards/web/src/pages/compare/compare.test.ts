import { expect, test } from "vitest";
import type { Schemas } from "../../api/client";
import { marksOf } from "../../lib/marks";
import { stepOf } from "./data";
import { decisionText, logText, pathOf, readEvent } from "./event";
import { rayOf, statusProblem } from "./filters";
import { pagesOf } from "./pages";
import { compared } from "./sentences";
import { align, exceptionsPerMinute, failureRate, perSecond, statusShare, values, wallTime } from "./series";
import { Inbox, keptMax } from "./stream";
import { likelyPair, versionFacts } from "./versions";

const zero = { failures: 0, assigned: 0, assigned_failures: 0, exceptions: 0, status: { "2xx": 0, "3xx": 0, "4xx": 0, "5xx": 0, none: 0 } };

function point(time: string, version: string, requests: number, more: object = {}): Schemas["SeriesPoint"] {
  return { ...zero, time: `2026-03-01T${time}Z`, version_id: version, requests, ...more };
}

function metrics(since: string, until: string, ...series: Schemas["SeriesPoint"][]): Schemas["Metrics"] {
  const ids = [...new Set(series.map((p) => p.version_id))];
  return { since: `2026-03-01T${since}Z`, until: `2026-03-01T${until}Z`, step_seconds: 60, series, versions: ids.map((id) => ({ ...zero, version_id: id, requests: 1 })) };
}

const version = (id: string, made: string) => ({ id, name: id, tag: undefined, color: 0, number: 1, created: new Date(`2026-03-01T${made}Z`) });

test("steps are whole ones, and the one that is not over is left out", () => {
  const m = metrics("12:00:30", "12:04:30", point("12:00:00", "a", 60), point("12:03:00", "a", 120), point("12:04:00", "a", 7));
  const lines = align(m, new Date("2026-03-01T12:04:30Z"));
  expect(lines.times.map((t) => new Date(t * 1000).toISOString().slice(11, 19))).toEqual(["12:00:00", "12:01:00", "12:02:00", "12:03:00"]);
  expect(lines.range.map((t) => new Date(t * 1000).toISOString().slice(11, 19))).toEqual(["12:00:00", "12:05:00"]);
  expect(values(lines, version("a", "11:00:00"), perSecond(60))).toEqual([1, 0, 0, 2]);
});

test("rates of a short time are asked for by steps in which there is something to count", () => {
  const now = new Date("2026-03-01T12:00:00Z");
  const range = (from: string, to: string) => ({ since: new Date(`2026-03-01T${from}Z`), until: new Date(`2026-03-01T${to}Z`), last: undefined });
  expect(stepOf(range("11:55:00", "12:00:00"), now)).toBe("15s");
  expect(stepOf(range("10:00:00", "12:00:00"), now), "long").toBeUndefined();
  expect(stepOf(range("01:00:00", "01:05:00"), now), "long ago").toBeUndefined();
});

test("a step that has just ended waits until its events are counted, and one long past is there whole", () => {
  const m = metrics("12:00:00", "12:02:00", point("12:01:00", "a", 60));
  expect(align(m, new Date("2026-03-01T12:02:04Z")).times).toHaveLength(1);
  expect(align(m, new Date("2026-03-01T12:02:05Z")).times).toHaveLength(2);
  expect(align(metrics("12:00:00", "12:01:30", point("12:01:00", "a", 60)), new Date("2026-03-01T13:00:00Z")).times).toHaveLength(2);
});

test("without requests there are none a second, but no share and no time is known", () => {
  const m = metrics("12:00:00", "12:03:00",
    point("12:00:00", "a", 100, { failure_rate: 0.05, exceptions: 3, status: { ...zero.status, "5xx": 5 }, wall_ms: { p50: 1, p90: 2, p99: 3 } }), point("12:02:00", "b", 5));
  const lines = align(m, new Date("2026-03-01T13:00:00Z"));
  const a = version("a", "11:00:00");
  expect(values(lines, a, failureRate)).toEqual([0.05, null, null]);
  expect(values(lines, a, statusShare("5xx"))).toEqual([0.05, null, null]);
  expect(values(lines, a, exceptionsPerMinute(60))).toEqual([3, 0, 0]);
  expect(values(lines, a, wallTime("p99"))).toEqual([3, null, null]);
});

test("before it was made, nothing is known of a version", () => {
  const lines = align(metrics("12:00:00", "12:03:00", point("12:02:00", "b", 60)), new Date("2026-03-01T13:00:00Z"));
  expect(values(lines, version("b", "12:01:30"), perSecond(60))).toEqual([null, 0, 1]);
  expect(values(lines, { ...version("b", "12:00:00"), created: undefined }, perSecond(60))).toEqual([0, 0, 1]);
});

function comparison(baseline: [failures: number, requests: number], candidate: [number, number], difference?: [number, number, number], ratio?: [number, number, number?]): Schemas["Comparison"] {
  const rates = ([failures, requests]: [number, number]) => ({ version_id: "x", failures, requests, ...(requests > 0 ? { failure_rate: failures / requests } : {}) });
  return {
    since: "", until: "", count: "assigned", confidence: 0.95, baseline: rates(baseline), candidate: rates(candidate), method: { rate: "", difference: "", ratio: "", caution: "" },
    ...(difference ? { difference: { estimate: difference[0], low: difference[1], high: difference[2] } } : {}),
    ...(ratio ? { ratio: { estimate: ratio[0], low: ratio[1], ...(ratio[2] === undefined ? {} : { high: ratio[2] }) } } : {}),
  };
}

test("a clear difference is said with its bounds", () => {
  const words = compared(comparison([11, 12919], [221, 4205], [0.0517, 0.0453, 0.0588], [61.7, 33.9, 114]), "v1", "v2");
  expect(words.verdict).toBe("worse");
  expect(words.headline).toBe("v2 fails more often than v1: its failure rate is 5.2 percentage points higher.");
  expect(words.sentences.join(" ")).toBe("Of 4,205 requests whose version was drawn, v2 failed 221 (5.3 %); of 12,919, v1 failed 11 (0.085 %). " +
    "With 95 % confidence it is really between 4.5 and 5.9 percentage points more. That is 62 times as often (between 34 and 114 times).");
});

test("bounds on both sides of none are not taken for a difference", () => {
  const words = compared(comparison([5, 1000], [6, 1000], [0.001, -0.006, 0.008], [1.2, 0.4, 3.9]), "v1", "v2");
  expect(words.verdict).toBe("open");
  expect(words.sentences[1]).toBe("With 95 % confidence the true difference lies between 0.6 percentage points fewer and 0.8 percentage points more.");
  expect(compared(comparison([50, 1000], [0, 1000], [-0.05, -0.06, -0.03], [0, 0, 0.1]), "v1", "v2").verdict).toBe("better");
});

test("what does not exist is not said", () => {
  expect(compared(comparison([0, 0], [1, 10]), "v1", "v2").headline).toBe("There is nothing to compare yet: v1 had no requests whose version was drawn in this time.");
  expect(compared(comparison([0, 1000], [60, 1000], [0.06, 0.04, 0.08]), "v1", "v2").sentences.at(-1)).toBe("v1 did not fail at all, so it cannot be said how many times as often v2 fails.");
  expect(compared(comparison([1, 1000], [60, 1000], [0.06, 0.04, 0.08], [60, 11]), "v1", "v2").sentences.at(-1)).toBe("That is 60 times as often (at least 11 times).");
  expect(compared(comparison([0, 1000], [0, 1000], [0, -0.004, 0.004]), "v1", "v2").sentences).toHaveLength(2);
});

const listed = (id: string, number: number, tag?: string) => ({
  id, number, annotations: tag ? { "workers/tag": tag } : {},
  metadata: { created_on: "2026-03-01T00:00:00Z", modified_on: "", source: "api", author_id: "", author_email: "", hasPreview: true, has_preview: true },
}) as Schemas["Version"];

const deployment = (id: string, versions: [string, number][], more: object = {}) => ({
  id, created_on: "2026-03-01T12:00:00Z", source: "api", author_email: "ada@example.com", strategy: "percentage", annotations: {}, code_update_strategy: {},
  versions: versions.map(([version_id, percentage]) => ({ version_id, percentage })), ...more,
}) as Schemas["Deployment"];

test("versions are called by their tags, with ids where one tag is given twice", () => {
  const facts = versionFacts([listed("bbbbbbbb-1", 2, "rc"), listed("aaaaaaaa-1", 1, "rc"), listed("cccccccc-1", 3)], [{ version_id: "dddddddd-1", tag: "old" }]);
  expect([...facts.values()].map((v) => [v.name, v.color])).toEqual([["rc (bbbbbbbb)", 1], ["rc (aaaaaaaa)", 0], ["cccccccc", 2], ["old", 3]]);
});

test("the likely pair is that of the split, and after a rollback that of the one before", () => {
  const facts = versionFacts([listed("c", 3), listed("b", 2), listed("a", 1)], []);
  expect(likelyPair([deployment("1", [["b", 10], ["a", 90]])], facts)).toEqual({ baseline: "a", candidate: "b" });
  expect(likelyPair([deployment("2", [["a", 100]]), deployment("1", [["a", 90], ["b", 10]])], facts)).toEqual({ baseline: "a", candidate: "b" });
  expect(likelyPair([deployment("3", [["b", 100]]), deployment("2", [["a", 100]])], facts)).toEqual({ baseline: "a", candidate: "b" });
  expect(likelyPair([deployment("1", [["a", 100]])], facts)).toEqual({ baseline: "a", candidate: "c" });
  expect(likelyPair([], versionFacts([listed("a", 1)], []))).toBeUndefined();
  const old = versionFacts([listed("y", 101)], [{ version_id: "x" }]);
  expect(likelyPair([deployment("1", [["y", 50], ["x", 50]])], old), "too old to be listed").toEqual({ baseline: "x", candidate: "y" });
});

test("a rollback is one mark, not also that of its deployment", () => {
  const decision = (more: object) => ({ id: "d", at: "2026-03-01T12:00:01Z", verdict: "fail", from_deployment: "1", version_id: "b", numbers: {}, sentence: "rolled back v2", ...more }) as unknown as Schemas["Decision"];
  const marks = marksOf([deployment("2", [["a", 100]]), deployment("1", [["a", 90], ["b", 10]], { annotations: { "workers/message": "a tenth" } })], [decision({ to_deployment: "2" }), decision({ verdict: "pass" })], (id) => id.toUpperCase());
  expect(marks).toEqual([
    { at: Date.parse("2026-03-01T12:00:00Z") / 1000, text: "Deployment: A 90 %, B 10 % by ada@example.com – a tenth", tone: "accent", glyph: "◆" },
    { at: Date.parse("2026-03-01T12:00:01Z") / 1000, text: "rolled back v2", tone: "bad", glyph: "↩" },
  ]);
});

test("an event is read whatever is missing of it", () => {
  const empty = readEvent({});
  expect(empty).toMatchObject({ outcome: "", ray: undefined, status: undefined, wallMs: undefined, logs: [], exceptions: [], headers: [], sampledOut: 0 });
  const e = readEvent({
    EventTimestampMs: 1000, EventType: "fetch", Outcome: "ok", WallTimeMs: 0, Event: { RayID: "r", Request: { URL: "http://shop.example/a?b=1", Method: "GET", Headers: { host: "x" } }, Response: { Status: 502 } },
    Logs: [{ Level: "log", Message: ["order", 7, { a: 1 }], TimestampMs: 1001 }, null], Gateway: { Decision: "affinity", AffinityRule: 2 }, Exceptions: "no list",
  });
  expect(e).toMatchObject({ failed: true, status: 502, ray: "r", wallMs: 0, exceptions: [] });
  expect(e.logs[0]!.text).toBe('order 7 {"a":1}');
  expect(decisionText(e)).toBe("affinity: chosen by the version key, by rule 2");
  expect(pathOf(e.url!)).toBe("/a?b=1");
  expect(pathOf("redacted")).toBe("redacted");
  expect(logText(undefined)).toBe("");
});

test("the inbox keeps the newest events, and parses no others", () => {
  const inbox = new Inbox();
  for (let i = 0; i < 5000; i++) inbox.put(i < 4000 ? "{broken" : JSON.stringify({ EventTimestampMs: i }));
  expect(inbox.size).toBe(keptMax);
  const kept = inbox.into([]);
  expect(kept).toHaveLength(keptMax);
  expect(kept[0]).toMatchObject({ id: 5000 });
  expect(kept.at(-1)!.event.at.getTime()).toBe(4500);
  inbox.put(JSON.stringify({ EventTimestampMs: 1 }));
  expect(inbox.into(kept).map((k) => k.id).slice(0, 2)).toEqual([5001, 5000]);
  expect(inbox.received).toBe(5001);
});

test("pages that were loaded behind an earlier newest one are not put behind the present one", () => {
  const page = (until: string, cursor?: string): Schemas["Events"] => ({ events: [], since: "", until, ...(cursor ? { cursor } : {}) });
  const [newest, older, again] = [page("12:00", "a"), page("12:00", "b"), page("12:01", "c")];
  expect(pagesOf(newest, undefined)).toEqual([newest]);
  expect(pagesOf(newest, { pages: [newest, older] })).toEqual([newest, older]);
  expect(pagesOf(again, { pages: [newest, older] })).toEqual([again]);
});

test("a status that the API would refuse is named before it is sent", () => {
  for (const good of ["", "404", "5xx", "400-404", "none", "404,5xx", "404, 5xx"]) expect(statusProblem(good)).toBeUndefined();
  expect(statusProblem("404,bad")).toContain("“bad” is no status");
});

test("a ray is taken as a response has it", () => {
  expect(rayOf(" c26bd6e722021e0a-FRA ")).toBe("c26bd6e722021e0a");
  expect(rayOf("c26bd6e722021e0a")).toBe("c26bd6e722021e0a");
  for (const bad of ["", "c26bd6e7", "c26bd6e722021e0a-fra", "zzzzzzzzzzzzzzzz"]) expect(rayOf(bad)).toBeUndefined();
});
