// What a comparison of two versions says, in plain words.
import type { Schemas } from "../../api/client";
import { formatCount, formatRate } from "../../lib/format";

type Comparison = Schemas["Comparison"];

/** Parts of 1 as percentage points, with two significant digits. */
export function formatPoints(share: number): string {
  const points = Math.abs(share) * 100;
  return points >= 10 ? points.toFixed(1) : String(Number(points.toPrecision(2)));
}

/** "3.4 points more", "0.2 points fewer", "none": how far one rate is above another. */
function above(share: number): string {
  const points = formatPoints(share);
  if (points === "0") return "no difference";
  return `${points} percentage points ${share > 0 ? "more" : "fewer"}`;
}

function times(ratio: number): string {
  return ratio >= 100 ? formatCount(ratio) : String(Number(ratio.toPrecision(2)));
}

export interface Words {
  /** What is known at a glance. */
  verdict: "worse" | "better" | "open" | "nothing";
  headline: string;
  sentences: string[];
}

/** A comparison in words, for versions of these names. */
export function compared(c: Comparison, baseline: string, candidate: string): Words {
  const kind = c.count === "assigned" ? "requests whose version was drawn" : "requests";
  const empty = [[c.candidate, candidate] as const, [c.baseline, baseline] as const].filter(([v]) => v.requests === 0).map(([, name]) => name);
  const d = c.difference;
  if (empty.length > 0 || !d || d.low === undefined || d.high === undefined) {
    return { verdict: "nothing", headline: `There is nothing to compare yet: ${empty.join(" and ")} had no ${kind} in this time.`, sentences: [] };
  }
  const rates = `Of ${formatCount(c.candidate.requests)} ${kind}, ${candidate} failed ${formatCount(c.candidate.failures)} (${formatRate(c.candidate.failure_rate)}); ` +
    `of ${formatCount(c.baseline.requests)}, ${baseline} failed ${formatCount(c.baseline.failures)} (${formatRate(c.baseline.failure_rate)}).`;
  const confidence = `${Number((c.confidence * 100).toPrecision(4))} %`;
  const between = d.low < 0 && d.high > 0
    ? `With ${confidence} confidence the true difference lies between ${above(d.low)} and ${above(d.high)}.`
    : `With ${confidence} confidence it is really between ${[d.low, d.high].map(formatPoints).sort((a, b) => Number(a) - Number(b)).join(" and ")} percentage points ${d.low < 0 ? "fewer" : "more"}.`;
  const sentences = [rates, between, ...ratioWords(c, baseline, candidate)];
  if (d.low > 0) return { verdict: "worse", headline: `${candidate} fails more often than ${baseline}: its failure rate is ${formatPoints(d.estimate)} percentage points higher.`, sentences };
  if (d.high < 0) return { verdict: "better", headline: `${candidate} fails less often than ${baseline}: its failure rate is ${formatPoints(d.estimate)} percentage points lower.`, sentences };
  return { verdict: "open", headline: `These requests do not show which of ${baseline} and ${candidate} fails more often.`, sentences };
}

function ratioWords(c: Comparison, baseline: string, candidate: string): string[] {
  const r = c.ratio;
  if (c.candidate.failures === 0 && c.baseline.failures === 0) return [];
  if (!r) return [`${baseline} did not fail at all, so it cannot be said how many times as often ${candidate} fails.`];
  if (r.estimate === 0) return [];
  const bounds = r.high === undefined ? `at least ${times(r.low ?? 0)} times` : `between ${times(r.low ?? 0)} and ${times(r.high)} times`;
  return [`That is ${times(r.estimate)} times as often (${bounds}).`];
}
