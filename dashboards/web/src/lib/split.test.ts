import { expect, test } from "vitest";
import { changeSentence, full, movedSentence, parsePercent, percentText, splitOf, splitProblem, splitText, thousandths, type Split } from "./split";

const name = (id: string): string => id;
const split = (...parts: [string, number][]): Split[] => parts.map(([version_id, percentage]) => ({ version_id, percentage }));

test("a percentage is read to the thousandth, and what is none is refused", () => {
  const f = (text: string, want: number | undefined) => expect(parsePercent(text), text).toBe(want);
  f("10", 10_000);
  f(" 12.345 % ", 12_345);
  f("0,5", 500);
  f(".001", 1);
  f("5.", 5_000);
  f("100", full);
  f("0", 0);
  f("100.001", undefined);
  f("1.2345", undefined);
  f("-1", undefined);
  f("1e2", undefined);
  f("", undefined);
  f(".", undefined);
  f("%", undefined);
});

test("thousandths are exact, whatever binary fractions do", () => {
  expect(thousandths(33.333)).toBe(33_333);
  expect(percentText(full - thousandths(33.333))).toBe("66.667 %");
  for (let n = 0; n <= full; n++) {
    const parts = splitOf("b", n, "a");
    if (parts.reduce((sum, s) => sum + thousandths(s.percentage), 0) !== full) throw new Error(`${n} does not add up`);
    if (parsePercent(String(n / 1000)) !== n) throw new Error(`${n} is not read as it is written`);
  }
});

test("a version that gets everything stands alone, one that gets nothing is kept for tests", () => {
  expect(splitOf("b", full, "a")).toEqual(split(["b", 100]));
  expect(splitOf("b", 0, "a")).toEqual(split(["a", 100], ["b", 0]));
  expect(splitOf("b", full, undefined)).toEqual(split(["b", 100]));
});

test("a split in words begins with the largest share", () => {
  expect(splitText(split(["v2", 0.5], ["v1", 99.5]), name)).toBe("99.5 % v1, 0.5 % v2");
});

test("a change is told with its numbers before it is made", () => {
  const f = (before: Split[], after: Split[], want: string) => expect(changeSentence(before, after, name)).toBe(want);
  f(split(["v1", 100]), split(["v1", 90], ["v2", 10]), "v1 gets 90 % of requests (100 % now) and v2 gets 10 % of requests (joins the deployment).");
  f(split(["v1", 90], ["v2", 10]), split(["v2", 100]), "v2 gets 100 % of requests (10 % now) and v1, which has 90 % now, leaves the deployment.");
  f(split(["v1", 100]), split(["v1", 100], ["v2", 0]), "v1 gets 100 % of requests (as now) and v2 gets no request but those that name it (joins the deployment).");
  f(split(["v1", 90], ["v2", 10]), split(["v2", 10], ["v1", 90]), "Nothing changes: 90 % v1, 10 % v2 is what serves now.");
  f(split(["v1", 50], ["v2", 50]), split(["v1", 40], ["v3", 60]),
    "v3 gets 60 % of requests (joins the deployment), v1 gets 40 % of requests (50 % now) and v2, which has 50 % now, leaves the deployment.");
  f([], split(["v1", 100]), "v1 gets 100 % of requests (joins the deployment).");
});

test("how many requests change their version is told where there are some", () => {
  const f = (before: Split[], after: Split[], rate: number | undefined, want: string) => expect(movedSentence(before, after, rate === undefined ? undefined : { perSecond: rate, when: "in the last 5 minutes" })).toBe(want);
  f(split(["v1", 100]), split(["v1", 90], ["v2", 10]), 12, "Of about 12 requests a second in the last 5 minutes, 1.2 change their version.");
  f(split(["v1", 50], ["v2", 50]), split(["v1", 40], ["v3", 60]), 100, "Of about 100 requests a second in the last 5 minutes, 60 change their version.");
  f(split(["v1", 100]), split(["v1", 100], ["v2", 0]), 50, "");
  f(split(["v1", 100]), split(["v1", 90], ["v2", 10]), undefined, "");
  f([], split(["v1", 100]), 100, "");
});

test("what the server would refuse is said while it is typed", () => {
  expect(splitProblem("b", undefined, "a")).toContain("three decimals");
  expect(splitProblem("b", 50_000, undefined)).toContain("100 %");
  expect(splitProblem("a", 50_000, "a")).toContain("different");
  expect(splitProblem("b", 50_000, "a")).toBeUndefined();
});
