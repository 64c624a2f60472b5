// What the tests of a policy say, in words and as lines of a chart.
import type { Schemas } from "../../api/client";
import { capital, formatCount, formatRate, unknown } from "../../lib/format";
import { formatDuration } from "../../lib/time";
import { limitKind, limitName, limits, millis, percent, perOne, type Settings } from "./limits";

export type Evidence = Schemas["Evidence"];
export type Trial = Schemas["LiveEvidence"]["trials"][number];
export type Numbers = Trial["numbers"];

/** Hits that a version must have before anything is done, whatever a test says. */
const hitsMin = 3;

/** A factor of evidence: "4.1", "1,000", "over 1 billion". */
export function factor(logE: number): string {
  const e = Math.exp(logE);
  if (e > 1e9) return "over 1 billion";
  return e >= 100 ? formatCount(Math.round(e)) : String(Number(e.toPrecision(2)));
}

/** A probability as people say it, "1 in 4,000", rounded so that none looks smaller than it is, and as the command line has it. */
export function chance(p: number): string {
  if (p >= 0.1) return `${Math.ceil(Number((100 * p).toPrecision(9)))}\u00a0%`;
  return p >= 1e-9 ? `1 in ${perOne(p)}` : "below 1 in 1,000,000,000";
}

/** "4.1 of 1,000 needed". */
export function strength(e: Pick<Evidence, "log_e" | "threshold">): string {
  return `${factor(e.log_e)} of ${factor(e.threshold)} needed`;
}

/** The requests of a version and its baseline: "12 of 8,120 failed (0.15 %), of the baseline 3 of 9,050 (0.033 %)". */
export function counts(n: Numbers): string {
  const one = (requests: number | undefined, failures: number | undefined, rate: number | undefined): string =>
    requests === undefined ? "no request was counted yet" : `${formatCount(failures)} of ${formatCount(requests)} failed (${formatRate(rate)})`;
  const own = one(n.requests, n.failures, n.failure_rate);
  if (n.baseline_requests === undefined) return `${own}; of the baseline no request was counted beside it`;
  return `${own}; of the baseline ${one(n.baseline_requests, n.baseline_failures, n.baseline_failure_rate)}`;
}

/** What the test of one limit has seen. */
export function seen(e: Evidence, blocks: boolean): string {
  const expected = Number(e.expected.toPrecision(2));
  const most = `at most ${e.expected >= 100 ? formatCount(e.expected) : expected} were to be expected if the limit is kept`;
  const [n, all] = [formatCount(e.events), formatCount(e.trials)];
  if (blocks) return `${n} of what ${all} blocks could weigh speaks against it, ${most}`;
  if (e.metric === "min_traffic_ratio") return `${n} of ${all} answered requests were the baseline’s, ${most}`;
  if (e.metric === "max_failure_ratio") return `${n} of ${all} failures of both versions were its own, ${most}`;
  if (e.metric === "max_failure_rate") return `${n} of ${all} requests failed, ${most}`;
  if (limitKind(e.metric) === "ratio") return `${n} of ${all} slow requests of both versions were its own, ${most}`;
  return `${n} of ${all} measured requests ${e.metric.includes("_cpu_") ? "used more CPU time" : "took longer"} than the limit, ${most}`;
}

/**
 * Where what is limited lies, as far as is known: "1.8 to 5.2 times the baseline’s". Rounded
 * outwards, so that nothing is said which was not shown.
 */
export function lies(e: Pick<Evidence, "metric" | "low" | "high">): string {
  const ratio = limitKind(e.metric) === "ratio";
  const show = (n: number, round: (n: number) => number): string => {
    const digit = 10 ** (Math.floor(Math.log10(n)) - 1);
    const value = Number((round(Number((n / digit).toPrecision(6))) * digit).toPrecision(2));
    return ratio ? value.toLocaleString("en") : formatRate(value);
  };
  const low = e.low === undefined ? undefined : show(e.low, Math.floor);
  const high = e.high === undefined ? undefined : show(e.high, Math.ceil);
  const of = ratio ? " times the baseline’s" : "";
  // What has changed in the trial may have been above one end and below the other.
  if (e.low !== undefined && e.high !== undefined && e.low > e.high) return `at least ${low} and at most ${high}${of} in turn`;
  if (low !== undefined && high !== undefined) return `${low} to ${high}${of}`;
  if (low !== undefined) return `at least ${low}${of}`;
  return high === undefined ? unknown : `at most ${high}${of}`;
}

/** The limit itself: "at most 1.5 times the baseline’s". */
export function limitWords(e: Pick<Evidence, "metric" | "limit">): string {
  switch (limitKind(e.metric)) {
    case "ratio": return e.limit === 1 ? "not above the baseline’s" : `at most ${e.limit} times the baseline’s`;
    case "millis": return `at most ${millis(e.limit)}`;
    default: return e.metric === "min_traffic_ratio" ? `at least ${percent(e.limit)}` : `at most ${percent(e.limit)}`;
  }
}

/** Whether a policy is on, and does anything. `reason` is why nothing that serves can be judged. */
export function watch(enabled: boolean, reason: string | undefined): [word: string, tone: "good" | "warn"] {
  if (!enabled) return ["Off", "warn"];
  return reason === undefined ? ["On", "good"] : ["On, but judges nothing", "warn"];
}

export interface State {
  tone: "good" | "warn" | "bad" | "accent";
  word: string;
  /** What comes next, or what it waits for. */
  next: string;
}

const will: Record<Settings["action"], string> = {
  rollback: "The version is being rolled back.",
  pause: "The ramp is being held.",
  notify: "The policy only tells of it: the version stays until a person acts.",
};

/**
 * A trial in words. `policy` is the one that it follows, if that is known; `alone` says that its baseline gets no
 * requests, so that what compares waits for nothing that will come.
 */
export function stateOf(trial: Trial, enabled: boolean, policy: Settings | undefined, alone: boolean): State {
  if (!enabled) return { tone: "warn", word: "Not watched", next: "The policy is switched off: nobody acts on this evidence." };
  if (trial.verdict === "fail") {
    return { tone: "bad", word: "Fails", next: `The limit of ${limitName(trial.metric ?? "")} is passed. ${will[policy?.action ?? "rollback"]}` };
  }
  const strongest = closest(trial.evidence);
  if (strongest && strongest.log_e >= strongest.threshold) return { tone: "warn", word: "Held back", next: heldBack(strongest, trial, policy) };
  if (strongest && strongest.log_e >= Math.log(20)) {
    return { tone: "warn", word: "Suspicious", next: `Evidence is building up against ${limitName(strongest.metric)}, ${strength(strongest)}. A ramp does not go on meanwhile.` };
  }
  const enough = (trial.numbers.requests ?? 0) >= Math.max(policy?.min_requests ?? 1, 1);
  if (trial.verdict === "inconclusive" && alone && enough && trial.evidence.some((e) => limitKind(e.metric) === "ratio")) {
    return { tone: "accent", word: "Not compared", next: `${capital(trial.sentence)}.` };
  }
  if (trial.verdict === "inconclusive") return { tone: "accent", word: "Waiting", next: `Waits for requests: ${trial.sentence}.` };
  return { tone: "good", word: "Nothing found", next: "Nothing speaks against this version so far. It stays on trial." };
}

/** Why nothing is done although a test says enough. */
function heldBack(e: Evidence, trial: Trial, policy: Settings | undefined): string {
  const least = policy?.min_requests;
  const has = trial.numbers.requests ?? 0;
  const start = `The evidence against ${limitName(e.metric)} is enough, ${strength(e)}, but `;
  if (least !== undefined && has < least) return `${start}the version had only ${formatCount(has)} of the ${formatCount(least)} requests that the policy asks for.`;
  if (e.events < hitsMin) return `${start}only ${formatCount(e.events)} requests speak against it, and it takes ${hitsMin}.`;
  if (policy?.min_failure_difference !== undefined) return `${start}its failure rate is not yet ${percent(policy.min_failure_difference)} of all requests above the baseline’s.`;
  return `${start}nothing was done yet: ${trial.sentence}.`;
}

/** The evidence that is nearest to its threshold. */
export function closest(list: Evidence[]): Evidence | undefined {
  let nearest: Evidence | undefined;
  for (const e of list) {
    if (!nearest || e.log_e - e.threshold > nearest.log_e - nearest.threshold) nearest = e;
  }
  return nearest;
}

export interface Lines {
  times: number[];
  lines: { name: string; values: (number | null)[] }[];
  /** What it takes; the same for all limits of a policy. */
  threshold: number;
  /** Ends of the axis. */
  least: number;
  most: number;
}

/** Evidence beyond so many thresholds is drawn at the edge: it grows without end, and the way there is what matters. */
const beyond = 100;

/**
 * Lines over time of the tests of a version, as factors of evidence. Between its points a
 * test stays as it was.
 */
export function linesOf(evidence: Evidence[]): Lines | undefined {
  // In the order of the policy, so that a limit has one colour wherever it is drawn.
  const order = limits.map((l): string => l.member);
  const list = evidence.toSorted((a, b) => order.indexOf(a.metric) - order.indexOf(b.metric));
  const first = list[0];
  if (!first) return undefined;
  const threshold = Math.exp(first.threshold);
  const peak = Math.max(...list.flatMap((e) => (e.series ?? []).map((p) => p.log_e)));
  const most = threshold * (peak > first.threshold ? beyond : 3);
  const points = list.map((e) => (e.series ?? []).map((p) => ({ at: Date.parse(p.at) / 1000, e: Math.exp(Math.min(p.log_e, Math.log(most))) })));
  const times = [...new Set(points.flat().map((p) => p.at))].sort((a, b) => a - b);
  const lines = list.map((e, i) => ({ name: limitName(e.metric), values: spread(points[i]!, times) }));
  const lowest = Math.min(1, ...points.flat().map((p) => p.e));
  return { times, lines, threshold, least: Math.max(10 ** Math.floor(Math.log10(lowest)), 1e-6), most };
}

function spread(points: { at: number; e: number }[], times: number[]): (number | null)[] {
  let next = 0;
  return times.map((at) => {
    while (next < points.length && points[next]!.at <= at) next++;
    return points[next - 1]?.e ?? null;
  });
}

/** Seconds without a counted request that are worth a warning. */
const silence = 30;

export interface Lag {
  text: string;
  late: boolean;
}

/** How far the counts are behind, as far as the newest counted request tells. `at` is when the server looked. */
export function lag(trial: Pick<Trial, "heard_on" | "baseline_heard_on">, at: string): Lag {
  const age = (heard: string | undefined): number => (heard === undefined ? Infinity : Math.max((Date.parse(at) - Date.parse(heard)) / 1000, 0));
  const own = age(trial.heard_on);
  const beside = age(trial.baseline_heard_on);
  if (own === Infinity) return { late: false, text: beside === Infinity ? "No request of either version was counted yet." : "No request of this version was counted yet, though its baseline’s are." };
  if (own > silence) return { late: true, text: `No request of this version was counted for ${formatDuration(own)}: it gets none, or its events are late.` };
  // At 100 % there is no baseline beside it, and nothing is late.
  if (beside > silence && beside < Infinity) return { late: false, text: `The newest counted request of the baseline is ${formatDuration(beside)} old: it gets none, or its events are late.` };
  return { late: false, text: `Counts are ${own < 1 ? "less than a second" : formatDuration(own)} behind.` };
}
