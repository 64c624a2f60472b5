// Points of /metrics laid on one line of time, and what charts show of them.
import type { Schemas } from "../../api/client";
import type { VersionFacts } from "./versions";

type Metrics = Schemas["Metrics"];
export type Point = Schemas["SeriesPoint"];
export type StatusClass = keyof Schemas["StatusCounts"];
export type Quantile = keyof Schemas["Quantiles"];

/** Seconds after which what happened is counted, but for requests that took as long: events take a moment to ClickHouse. */
export const settled = 5;

export interface Lines {
  /** Beginnings of the steps, in seconds since 1970. */
  times: number[];
  step: number;
  /** The axis: whole steps about the range that was asked for. */
  range: [since: number, until: number];
  /** One entry per time; undefined where the version had no request. */
  points: Map<string, (Point | undefined)[]>;
}

const seconds = (time: string): number => Date.parse(time) / 1000;

/**
 * Lays out the points of each version. A step that is not over, or of which not all can be counted yet, is
 * left out: it would look as if traffic had dropped.
 */
export function align(metrics: Metrics, now: Date): Lines {
  const step = metrics.step_seconds;
  const since = Math.floor(seconds(metrics.since) / step) * step;
  const until = Math.ceil(seconds(metrics.until) / step) * step;
  const over = Math.min(until, Math.floor((now.getTime() / 1000 - settled) / step) * step);
  const times: number[] = [];
  for (let at = since; at < over; at += step) times.push(at);
  const points = new Map<string, (Point | undefined)[]>();
  for (const v of metrics.versions) points.set(v.version_id, new Array<Point | undefined>(times.length).fill(undefined));
  for (const point of metrics.series) {
    const index = (seconds(point.time) - since) / step;
    const row = points.get(point.version_id);
    if (row && index >= 0 && index < times.length) row[index] = point;
  }
  return { times, step, range: [since, until], points };
}

/** One value for each time. `of` gets undefined where the version had no request; before it was made, nothing is known of it. */
export function values(lines: Lines, version: VersionFacts, of: (point: Point | undefined) => number | null): (number | null)[] {
  const made = version.created ? version.created.getTime() / 1000 : -Infinity;
  const row = lines.points.get(version.id);
  return lines.times.map((at, i) => {
    const point = row?.[i];
    return point === undefined && at + lines.step <= made ? null : of(point);
  });
}

// No request is a rate of none, but no share and no time of any.
export const perSecond = (step: number) => (p: Point | undefined): number => (p?.requests ?? 0) / step;
export const exceptionsPerMinute = (step: number) => (p: Point | undefined): number => ((p?.exceptions ?? 0) * 60) / step;
export const failureRate = (p: Point | undefined): number | null => p?.failure_rate ?? null;
export const statusShare = (of: StatusClass) => (p: Point | undefined): number | null => (p && p.requests > 0 ? p.status[of] / p.requests : null);
export const wallTime = (of: Quantile) => (p: Point | undefined): number | null => p?.wall_ms?.[of] ?? null;
