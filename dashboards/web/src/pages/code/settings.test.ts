import { expect, test } from "vitest";
import { compareSettings, settingsOf, type Version } from "./settings";

const version = (changes: Partial<Version>): Version => ({
  id: "0b9e2c53-0000-4000-8000-000000000000", number: 1, created_on: "2026-01-01T00:00:00Z", source: "api", author_email: "", annotations: {}, urls: [],
  bindings: [], compatibility_flags: [], usage_model: "standard", limits: {}, ...changes,
});

const changes = (before: Partial<Version>, after: Partial<Version>) =>
  compareSettings(version(before), version(after)).filter((c) => c.change !== "same").map((c) => [c.group, c.name, c.change, c.before?.value, c.after?.value]);

test("bindings that came, went and changed are told by their names", () => {
  expect(changes(
    { bindings: [{ name: "GONE", type: "plain_text", text: "x" }, { name: "WHO", type: "plain_text", text: "a" }, { name: "SAME", type: "json", json: { a: 1, b: 2 } }] },
    { bindings: [{ name: "NEW", type: "service", service: "shop", entrypoint: "Admin" }, { name: "WHO", type: "plain_text", text: "b" }, { name: "SAME", type: "json", json: { b: 2, a: 1 } }] },
  )).toEqual([
    ["Binding", "GONE", "removed", "x", undefined],
    ["Binding", "NEW", "added", undefined, "shop, entry point Admin"],
    ["Binding", "WHO", "changed", "a", "b"],
  ]);
});

test("two secrets of one name are never called the same, and a secret's text is never shown", () => {
  const secret = { name: "KEY", type: "secret_text" } as const;
  expect(changes({ bindings: [secret] }, { bindings: [secret] })).toEqual([["Binding", "KEY", "unknown", undefined, undefined]]);
  expect(changes({ bindings: [secret] }, { bindings: [{ name: "KEY", type: "plain_text", text: "" }] })).toEqual([["Binding", "KEY", "changed", undefined, ""]]);
});

test("flags, limits and dates are rows of their own", () => {
  expect(changes(
    { compatibility_date: "2026-01-01", compatibility_flags: ["nodejs_compat"], limits: { cpu_ms: 0 } },
    { compatibility_date: "2026-03-01", compatibility_flags: ["nodejs_compat", "x"], limits: {} },
  )).toEqual([
    ["Runtime", "CPU limit", "removed", "0 ms", undefined],
    ["Runtime", "Compatibility date", "changed", "2026-01-01", "2026-03-01"],
    ["Runtime", "Compatibility flag x", "added", undefined, "set"],
  ]);
});

test("an origin is told by its endpoints and settings", () => {
  expect(settingsOf(version({ origin: { endpoints: [{ url: "http://a:1", weight: 0.5 }], timeouts: { connect_ms: 500, idle_ms: 2000 }, max_requests: 9, retries: 0 } }))).toEqual([
    { group: "Origin", name: "Endpoint http://a:1", value: "weight 0.5" },
    { group: "Origin", name: "Timeouts: Connect (ms)", value: "500" },
    { group: "Origin", name: "Timeouts: Idle (ms)", value: "2000" },
    { group: "Origin", name: "Max requests", value: "9" },
    { group: "Origin", name: "Retries", value: "0" },
  ]);
});
