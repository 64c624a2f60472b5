// What versions do, out of the metrics of their script.
import type { Schemas } from "../../api/client";
import { splitText, type Named } from "./split";

type Metrics = Schemas["Metrics"];
type Deployment = Schemas["Deployment"];

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

export interface Lines {
  times: number[];
  /** Requests a second by version, in the order of `ids`. */
  ids: string[];
  values: number[][];
}

/** Whole steps only: the last one has not ended, and would look like a fall. A step without requests is zero. */
export function requestLines(metrics: Metrics): Lines {
  const step = metrics.step_seconds;
  const first = Math.floor(Date.parse(metrics.since) / 1000 / step) * step;
  const end = Math.floor(Date.parse(metrics.until) / 1000 / step) * step;
  const times: number[] = [];
  for (let t = first; t < end; t += step) times.push(t);
  const ids = [...new Set(metrics.series.map((p) => p.version_id))].sort();
  const values = ids.map(() => new Array<number>(times.length).fill(0));
  for (const p of metrics.series) {
    const i = Math.round((Date.parse(p.time) / 1000 - first) / step);
    if (i >= 0 && i < times.length) values[ids.indexOf(p.version_id)]![i] = p.requests / step;
  }
  return { times, ids, values };
}

export interface DeploymentMark {
  at: number;
  text: string;
  tone: "bad" | "accent";
}

/** Deployments as marks on the line of time; those that a policy made are bad news. */
export function deploymentMarks(deployments: readonly Deployment[], name: Named): DeploymentMark[] {
  return deployments.map((d) => ({
    at: Date.parse(d.created_on) / 1000,
    text: splitText(d.versions, name),
    tone: d.annotations["workers/triggered_by"] === "rollback" ? "bad" : "accent",
  }));
}
