// A job's uploads over time, made into lines of a chart.
import type { HealthGroup } from "./api";

/** Longer ranges are drawn in steps of five minutes, as the API can sum them. */
const minutesMax = 12 * 60;

export const isCoarse = (since: Date, until: Date): boolean => until.getTime() - since.getTime() > minutesMax * 60_000;

export interface HealthSeries {
  /** Seconds since 1970, a step apart. */
  times: number[];
  records: number[];
  failed: number[];
  /** Of the whole time, with the step that still runs. */
  sum: { records: number; failed: number };
}

/** Milliseconds after which the outcomes of a step are counted. */
const settled = 15_000;

/**
 * Records that were taken and tries that were not, by step; a step without any has 0, because it is known.
 * Steps that are not over and counted at `now` are left out: they would look like a fall.
 */
export function seriesOf(groups: HealthGroup[], since: Date, until: Date, now: Date): HealthSeries {
  const step = isCoarse(since, until) ? 300 : 60;
  const first = Math.floor(since.getTime() / 1000 / step) * step;
  const asked = Math.max(Math.floor(until.getTime() / 1000 / step) - first / step, 0) + 1;
  const over = Math.max(Math.floor((now.getTime() - settled) / 1000 / step) - first / step, 0);
  const n = Math.min(asked, over);
  const series: HealthSeries = {
    times: Array.from({ length: n }, (_, i) => first + i * step), records: Array<number>(n).fill(0), failed: Array<number>(n).fill(0), sum: { records: 0, failed: 0 },
  };
  for (const { dimensions, sum } of groups) {
    const i = (Date.parse(dimensions.at) / 1000 - first) / step;
    if (i < 0 || i >= asked) continue;
    const [what, count] = dimensions.status === 200 ? (["records", sum.records] as const) : (["failed", sum.uploads] as const);
    series.sum[what] += count;
    if (i < n) series[what][i]! += count;
  }
  return series;
}
