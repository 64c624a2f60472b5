// The list of scripts: what the control plane says of them, merged with what they did.
import type { Schemas } from "../../api/client";
import { settled } from "../compare/series";

export type Serving = Schemas["Serving"];
export type Overview = Schemas["Overview"];

export interface Row {
  name: string;
  /** Undefined for a script that was never deployed. */
  serving: Serving | undefined;
  /** Undefined while nobody knows, as when rates cannot be read. */
  rates: { perSecond: number; failureRate: number | undefined; requests: number; failures: number } | undefined;
  /** Requests and failures by step, gaps filled; for a sparkline. */
  line: { requests: number[]; failures: number[] } | undefined;
}

/** Scripts without traffic are part of the list too. `now` bounds the range, whose end is that of a whole step. */
export function rowsOf(scripts: readonly Pick<Schemas["Script"], "id">[], serving: readonly Serving[], overview: Overview | undefined, now: Date): Row[] {
  const served = new Map(serving.map((s) => [s.script, s]));
  const rates = new Map(overview?.scripts.map((s) => [s.script, s]));
  // What the answer left out for its length is not known; what is not in a whole answer had no requests.
  const whole = overview !== undefined && overview.scripts.length >= overview.total_scripts;
  return scripts.map((script) => {
    const found = rates.get(script.id) ?? (whole ? { requests: 0, failures: 0, series: [] } : undefined);
    return { name: script.id, serving: served.get(script.id), ...(overview && found ? numbersOf(found, overview, now) : { rates: undefined, line: undefined }) };
  });
}

type Rates = Pick<Schemas["ScriptRates"], "requests" | "failures" | "failure_rate" | "series">;

function numbersOf(found: Rates, overview: Overview, now: Date): Pick<Row, "rates" | "line"> {
  const since = Date.parse(overview.since);
  const until = Math.min(Date.parse(overview.until), Math.max(now.getTime(), since + 1000));
  return {
    rates: { requests: found.requests, failures: found.failures, perSecond: (found.requests * 1000) / (until - since), failureRate: found.failure_rate },
    line: lineOf(found.series, since, until, overview.step_seconds * 1000),
  };
}

/** Only steps that are over and counted: another one would look like a fall. */
function lineOf(series: Rates["series"], since: number, until: number, step: number): { requests: number[]; failures: number[] } {
  const n = Math.max(0, Math.floor((until - settled * 1000 - since) / step));
  const requests = new Array<number>(n).fill(0);
  const failures = new Array<number>(n).fill(0);
  for (const p of series) {
    const i = Math.round((Date.parse(p.time) - since) / step);
    if (i < 0 || i >= n) continue;
    requests[i] = p.requests;
    failures[i] = p.failures;
  }
  return { requests, failures };
}

export const orders = [["name", "Name"], ["requests", "Busiest first"], ["failures", "Highest failure rate first"], ["deployed", "Newest deployment first"]] as const;
export type Order = (typeof orders)[number][0];

export function orderOf(text: string | undefined): Order {
  return orders.find(([o]) => o === text)?.[0] ?? "name";
}

/** The rows with `filter` in their names, ordered. What is not known comes last. */
export function shownRows(rows: readonly Row[], filter: string, order: Order): Row[] {
  const wanted = filter.trim().toLowerCase();
  const key: Record<Order, (r: Row) => number> = {
    name: () => 0,
    requests: (r) => r.rates?.perSecond ?? -1,
    failures: (r) => r.rates?.failureRate ?? -1,
    deployed: (r) => (r.serving ? Date.parse(r.serving.deployment.created_on) : -1),
  };
  return rows.filter((r) => r.name.includes(wanted)).sort((a, b) => key[order](b) - key[order](a) || a.name.localeCompare(b.name));
}

/** "2.5 req/s" with few digits; small rates are not shown as none. */
export function perSecondText(n: number | undefined): string {
  if (n === undefined || !Number.isFinite(n)) return "–";
  if (n === 0) return "0/s";
  if (n >= 1000) return `${new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(n)}/s`;
  return `${Number(n.toPrecision(n < 10 ? 2 : 3))}/s`;
}

