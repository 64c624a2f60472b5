// The limits that a policy may have, in the order in which the API tests them.
import type { Schemas } from "../../api/client";
import { formatCount } from "../../lib/format";

export type Settings = Schemas["PolicySettings"];

/** What a limit's value is: a share of requests, a multiple of the baseline's, or milliseconds. */
export type Kind = "share" | "ratio" | "millis";

export const limits = [
  { member: "max_failure_rate", kind: "share", name: "failure rate" },
  { member: "max_failure_ratio", kind: "ratio", name: "failures against the baseline" },
  { member: "max_p50_wall_ms", kind: "millis", name: "p50 wall time" },
  { member: "max_p90_wall_ms", kind: "millis", name: "p90 wall time" },
  { member: "max_p99_wall_ms", kind: "millis", name: "p99 wall time" },
  { member: "max_p50_wall_ratio", kind: "ratio", name: "p50 wall time against the baseline" },
  { member: "max_p90_wall_ratio", kind: "ratio", name: "p90 wall time against the baseline" },
  { member: "max_p99_wall_ratio", kind: "ratio", name: "p99 wall time against the baseline" },
  { member: "max_p99_cpu_ms", kind: "millis", name: "p99 CPU time" },
  { member: "max_p99_cpu_ratio", kind: "ratio", name: "p99 CPU time against the baseline" },
  { member: "min_traffic_ratio", kind: "share", name: "share of requests answered" },
] as const satisfies readonly { member: keyof Settings; kind: Kind; name: string }[];

export type Limit = (typeof limits)[number]["member"];

const byMember = new Map<string, (typeof limits)[number]>(limits.map((l) => [l.member, l]));

/** A limit as people call it. An unknown one keeps the name that the API gives it. */
export function limitName(metric: string): string {
  return byMember.get(metric)?.name ?? metric;
}

export function limitKind(metric: string): Kind | undefined {
  return byMember.get(metric)?.kind;
}

/** The limits that a policy names. */
export function limitsOf(policy: Settings): { member: Limit; value: number }[] {
  return limits.flatMap(({ member }) => (policy[member] === undefined ? [] : [{ member, value: policy[member] }]));
}

/** A number without the noise of its binary form: 7.000000000000001 is 7. */
export function exact(n: number): number {
  return Number(n.toPrecision(12));
}

const amounts = new Intl.NumberFormat("en", { maximumFractionDigits: 3 });

/** Milliseconds as they were set: "12,000 ms". */
export function millis(ms: number): string {
  return `${amounts.format(ms)}\u00a0ms`;
}

/** A share as it was set, all of its digits: 0.0005 is "0.05 %". */
export function percent(share: number): string {
  return `${exact(share * 100)}\u00a0%`;
}

/** The "1,000" of a chance of 1 in 1,000, rounded down to three digits, so that no chance looks smaller than it is. */
export function perOne(chance: number): string {
  const odds = Number((1 / chance).toPrecision(9));
  const digit = 10 ** Math.max(Math.floor(Math.log10(odds)) - 2, 0);
  return odds > 1e9 ? "1 billion" : formatCount(Math.floor(odds / digit) * digit);
}
