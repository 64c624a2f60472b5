import { expect, test } from "vitest";
import { capital, formatBytes, formatMillis, formatRate } from "./format";

test("a small rate is not shown as none, and an unknown one not as zero", () => {
  const f = (share: number | undefined, want: string) => expect(formatRate(share)).toBe(want);
  f(undefined, "–");
  f(NaN, "–");
  f(0, "0 %");
  f(1, "100 %");
  f(0.00012345, "0.012 %");
  f(0.0524, "5.2 %");
  f(0.12345, "12.3 %");
  f(0.998, "99.8 %");
  f(0.9996, "99.96 %");
  f(0.9999988, "99.99988 %");
});

test("lengths and sizes keep their meaningful digits", () => {
  expect(formatMillis(0.4242)).toBe("0.42 ms");
  expect(formatMillis(1234)).toBe("1.23 s");
  expect(formatBytes(1536)).toBe("1.5 KiB");
  expect(formatBytes(12)).toBe("12 B");
});

test("a sentence begins with a capital, and a name stays as it is", () => {
  const f = (text: string, want: string) => expect(capital(text)).toBe(want);
  f("after 52 requests: 8 failures", "After 52 requests: 8 failures");
  f("failing: see the log", "Failing: see the log");
  f("max_p99_wall_ms is below 0", "max_p99_wall_ms is below 0");
  f("v2 fails", "v2 fails");
  f("index.js has an error", "index.js has an error");
  f("", "");
});
