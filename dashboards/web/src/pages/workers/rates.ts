// What versions do, out of the metrics of their script.
import type { Schemas } from "../../api/client";

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

/** Requests a second of all versions together; undefined where that is not known. */
export function totalRate(rates: readonly VersionRate[]): number | undefined {
  return rates.length > 0 && rates.every((r) => r.perSecond !== undefined) ? rates.reduce((sum, r) => sum + r.perSecond!, 0) : undefined;
}
