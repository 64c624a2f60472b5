// What versions do, out of the metrics of their script.
import type { Schemas } from "../../api/client";
import { formatDuration } from "../../lib/time";
import { settled } from "../compare/series";

type Metrics = Schemas["Metrics"];

export interface VersionRate {
  id: string;
  /** In thousandths; undefined for a version that is no part of the deployment. */
  share: number | undefined;
  /** Undefined while nobody knows. */
  perSecond: number | undefined;
  failureRate: number | undefined;
  failures: number | undefined;
  p99: number | undefined;
}

/** Versions that serve, the largest share first, and after them those that had requests in the range. */
export function versionRates(serving: readonly { id: string; share: number }[], metrics: Metrics | undefined): VersionRate[] {
  const totals = new Map(metrics?.versions.map((v) => [v.version_id, v]));
  const seconds = metrics ? (Date.parse(metrics.until) - Date.parse(metrics.since)) / 1000 : NaN;
  const rate = (id: string, share: number | undefined): VersionRate => {
    const t = totals.get(id);
    const none = metrics ? 0 : undefined; // a version that did nothing is left out of the answer
    return { id, share, perSecond: t ? t.requests / seconds : none, failures: t ? t.failures : none, failureRate: t?.failure_rate, p99: t?.wall_ms?.p99 };
  };
  const left = [...totals.keys()].filter((id) => !serving.some((s) => s.id === id));
  return [...[...serving].sort((a, b) => b.share - a.share).map((s) => rate(s.id, s.share)), ...left.map((id) => rate(id, undefined))];
}

const recently = 300; // seconds
const listedMax = 100; // deployments, by the API

export interface Span {
  since: Date;
  until: Date;
  when: string;
}

/**
 * The time that tells how many requests come at present: the last minutes, but not from before the first deployment, of which
 * `deployments`, newest first, tell where they are all. Undefined where there is none, or too little of it to tell anything.
 */
export function recentSpan(deployments: readonly { created_on: string }[], now: Date): Span | undefined {
  const until = new Date(Math.floor(now.getTime() / 1000 - settled) * 1000);
  const all = deployments.length < listedMax;
  const first = all ? Date.parse(deployments.at(-1)?.created_on ?? "") : -Infinity;
  const seconds = Math.min(recently, Math.floor((until.getTime() - first) / 1000));
  if (!(seconds >= leastSpan)) return undefined;
  return {
    since: new Date(until.getTime() - seconds * 1000), until,
    when: seconds === recently ? `in the last ${recently / 60} minutes` : `in the ${formatDuration(seconds)} since the first deployment`,
  };
}

const leastSpan = 10; // seconds

export interface RecentRate {
  perSecond: number;
  when: string;
}

/** Requests a second of all versions together. */
export function recentRate(metrics: Pick<Metrics, "versions">, span: Span): RecentRate {
  const requests = metrics.versions.reduce((sum, v) => sum + v.requests, 0);
  return { perSecond: (requests * 1000) / (span.until.getTime() - span.since.getTime()), when: span.when };
}
