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
}

/** Records that were taken and tries that were not, by step; a step without any has 0, because it is known. */
export function seriesOf(groups: HealthGroup[], since: Date, until: Date): HealthSeries {
  const step = isCoarse(since, until) ? 300 : 60;
  const first = Math.floor(since.getTime() / 1000 / step) * step;
  const n = Math.max(Math.floor(until.getTime() / 1000 / step) * step - first, 0) / step + 1;
  const series: HealthSeries = { times: Array.from({ length: n }, (_, i) => first + i * step), records: Array<number>(n).fill(0), failed: Array<number>(n).fill(0) };
  for (const { dimensions, sum } of groups) {
    const i = (Date.parse(dimensions.at) / 1000 - first) / step;
    if (!(i in series.times)) continue;
    if (dimensions.status === 200) series.records[i]! += sum.records;
    else series.failed[i]! += sum.uploads;
  }
  return series;
}
