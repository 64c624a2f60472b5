import { expect, test } from "vitest";
import { orderOf, perSecondText, rowsOf, shownRows, type Overview, type Row, type Serving } from "./rows";

const script = (id: string) => ({ id });
const now = new Date("2026-03-01T12:00:30Z");
const overview: Overview = {
  since: "2026-03-01T11:58:00.000000Z", until: "2026-03-01T12:01:00.000000Z", step_seconds: 60, total_scripts: 1,
  scripts: [{ script: "shop", requests: 300, failures: 3, failure_rate: 0.01, series: [
    { time: "2026-03-01T11:58:00.000000Z", requests: 100, failures: 3 },
    { time: "2026-03-01T12:00:00.000000Z", requests: 200, failures: 0 },
  ] }],
};

test("scripts without traffic are listed, with a rate of zero that is known", () => {
  const [busy, idle] = rowsOf([script("shop"), script("idle")], [], overview, now) as [Row, Row];
  expect(busy.rates).toEqual({ requests: 300, failures: 3, perSecond: 2, failureRate: 0.01 });
  expect(idle.rates).toEqual({ requests: 0, failures: 0, perSecond: 0, failureRate: undefined });
  expect(idle.serving).toBeUndefined();
});

test("the step that has not ended is no part of the line, and gaps are zero", () => {
  const [row] = rowsOf([script("shop")], [], overview, now) as [Row];
  expect(row.line).toEqual({ requests: [100, 0], failures: [3, 0] });
});

test("what the answer left out is not known", () => {
  const [, other] = rowsOf([script("shop"), script("other")], [], { ...overview, total_scripts: 2 }, now) as [Row, Row];
  expect(other.rates).toBeUndefined();
  const [none] = rowsOf([script("shop")], [], undefined, now) as [Row];
  expect(none.rates).toBeUndefined();
});

test("rows are filtered by name and ordered, the unknown last", () => {
  const row = (name: string, perSecond: number | undefined, failureRate: number | undefined, deployed?: string): Row => ({
    name, line: undefined,
    serving: deployed === undefined ? undefined : { deployment: { created_on: deployed } } as Serving,
    rates: perSecond === undefined ? undefined : { perSecond, failureRate, requests: 0, failures: 0 },
  });
  const rows = [row("b", 1, 0.5, "2026-03-01T00:00:00Z"), row("a", undefined, undefined), row("shop", 2, 0.1, "2026-03-02T00:00:00Z")];
  const f = (filter: string, order: string | undefined, want: string) => expect(shownRows(rows, filter, orderOf(order)).map((r) => r.name).join(" ")).toBe(want);
  f("", undefined, "a b shop");
  f("", "requests", "shop b a");
  f("", "failures", "b shop a");
  f("", "deployed", "shop b a");
  f("", "nonsense", "a b shop");
  f(" SHO ", undefined, "shop");
});

test("a rate keeps its meaningful digits", () => {
  expect(perSecondText(undefined)).toBe("–");
  expect(perSecondText(0)).toBe("0/s");
  expect(perSecondText(0.00123)).toBe("0.0012/s");
  expect(perSecondText(12.34)).toBe("12.3/s");
  expect(perSecondText(12_345)).toBe("12.3K/s");
});
