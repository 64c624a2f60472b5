// A policy as sentences: what is watched, when something is done, and who is told.
import { capital, formatCount } from "../../lib/format";
import { formatDuration, formatTime, zoneName } from "../../lib/time";
import { exact, limitKind, limitsOf, millis, percent, perOne, type Limit, type Settings } from "./limits";

export interface Topic {
  title: string;
  sentences: string[];
}

/** The policy in words, in the order in which a reader asks. */
export function explain(policy: Settings): Topic[] {
  const topics: Topic[] = [
    { title: policy.enabled ? "On" : "Off", sentences: [opening(policy)] },
    { title: actionTitle(policy), sentences: conditions(policy) },
    { title: "How sure", sentences: certainty(policy) },
    { title: "Ramp", sentences: ramp(policy) },
    { title: "Told", sentences: told(policy) },
  ];
  return topics.filter((t) => t.sentences.length > 0);
}

function opening(policy: Settings): string {
  if (!policy.enabled) return "Nothing is watched: this policy is switched off, and no ramp starts or goes on.";
  return `${actionSentence(policy.action)}, as soon as the evidence against one of its limits is enough.`;
}

function actionSentence(action: Settings["action"]): string {
  switch (action) {
    case "rollback": return "A bad version is rolled back: all traffic goes to the version that last had all of it";
    case "pause": return "The ramp of a bad version is held where it is, and a person decides";
    case "notify": return "A bad version stays where it is: the decision is recorded, and people are told";
  }
}

function actionTitle(policy: Settings): string {
  return { rollback: "Roll back when", pause: "Hold the ramp when", notify: "Tell when" }[policy.action];
}

const failures: Record<Settings["count"], string> = {
  any: "a request that throws, exceeds a limit or is answered with 5xx",
  exceptions: "a request that throws or exceeds a limit, whatever its status",
  status_5xx: "a request that is answered with 5xx",
};

/** What a limit says of a version that passes it. */
export function passes(limit: Limit, value: number): string {
  const of = quantile(limit);
  switch (limitKind(limit)) {
    case "ratio":
      if (limit === "max_failure_ratio") return value === 1 ? "it fails more often than the baseline in the same seconds" : `it fails more than ${value} times as often as the baseline in the same seconds`;
      return value === 1 ? `its ${of} is above the baseline’s` : `its ${of} is above ${value} times the baseline’s`;
    case "millis": return `its ${of} is above ${millis(value)}`;
    default:
      return limit === "min_traffic_ratio" ? `it answers less than ${percent(value)} of the requests that its percentage promises` : `more than ${percent(value)} of its requests fail`;
  }
}

function quantile(limit: Limit): string {
  const [, q, what] = limit.split("_");
  return `${q} ${what === "cpu" ? "CPU time" : "wall time"}`;
}

function conditions(policy: Settings): string[] {
  const list = limitsOf(policy).map(({ member, value }) => {
    const difference = policy.min_failure_difference;
    const also = member === "max_failure_ratio" && difference !== undefined ? `, and its failure rate is at least ${percent(difference)} of all requests higher` : "";
    return `${passes(member, value)}${also}.`;
  });
  if (limitsOf(policy).some((l) => l.member.includes("failure"))) list.push(`A failure is ${failures[policy.count]}.`);
  return list.map(capital);
}

function certainty(policy: Settings): string[] {
  const n = limitsOf(policy).length;
  if (n === 0) return ["It names no limit, and so it acts on nothing."];
  const list = [`${falseAlarms(policy.confidence)}: so rarely is a version acted upon that keeps ${n === 1 ? "the limit" : `all ${n} limits`}, in its whole trial and however often the numbers are looked at.`];
  list.push(`Nothing is done before a version had ${count(policy.min_requests, "request")} and 3 that speak against it.`);
  if (policy.grace_seconds > 0) list.push(`The first ${formatDuration(policy.grace_seconds)} after a version’s first deployment do not count.`);
  list.push(`The tests begin anew every ${formatDuration(policy.look_back_seconds)} beside those that run, so that a version which was good for long is found soon when it turns bad.`);
  list.push(policy.evidence === "blocks"
    ? `Failures may come in bursts: each block of ${formatDuration(policy.block_seconds ?? 10)} counts once, however many requests are in it.`
    : "Each request counts for itself: failures are taken for independent of each other.");
  return list;
}

/** The promise: "At most 1 false alarm in 1,000 deployments". */
export function falseAlarms(confidence: number): string {
  const chance = exact(1 - confidence);
  return chance > 0.05 ? `False alarms in at most ${percent(chance)} of deployments` : `At most 1 false alarm in ${perOne(chance)} deployments`;
}

function ramp(policy: Settings): string[] {
  const steps = policy.ramp ?? [];
  const list: string[] = [];
  if (steps.length === 0) {
    list.push("There is no ramp: a version keeps the share that a person gives it.");
    return list;
  }
  list.push(`A version that a person gives a share grows by itself: ${steps.map((s, i) => stepWords(s, i === steps.length - 1)).join(", then ")}.`);
  const windows = policy.promote ?? [];
  if (windows.length > 0) list.push(`It grows only ${windows.map(windowWords).join(", or ")}.`);
  for (const f of policy.freeze ?? []) {
    list.push(`It does not grow from ${moment(f.from)} to ${moment(f.until)}${f.reason ? `: ${f.reason}` : ""}.`);
  }
  if (windows.length > 0 || (policy.freeze ?? []).length > 0) list.push("Hours hold up no rollback, and no person.");
  return list;
}

type Step = NonNullable<Settings["ramp"]>[number];

/** One step of a ramp: "10 % for 5 min, then if a person says so". The last one asks for nothing. */
export function stepWords(step: Step, last: boolean): string {
  const share = `${step.percentage} %`;
  if (last) return share;
  const gate = { watched: "", proven: " and until it is proven to keep every ratio", manual: " and until a person says so" }[step.gate ?? "watched"];
  const bake = step.bake_seconds ?? 0;
  return `${share} for ${bake === 0 ? "as long as it takes to see enough requests" : `at least ${formatDuration(bake)}`}${gate}`;
}

const dayNames = { mon: "Mondays", tue: "Tuesdays", wed: "Wednesdays", thu: "Thursdays", fri: "Fridays", sat: "Saturdays", sun: "Sundays" } as const;

function windowWords(w: NonNullable<Settings["promote"]>[number]): string {
  const days = (w.days ?? []).length === 0 ? "every day" : `on ${join((w.days ?? []).map((d) => dayNames[d]))}`;
  const overnight = w.until <= w.from ? " of the next day" : "";
  return `${days} from ${w.from} to ${w.until}${overnight} (${w.time_zone || "UTC"})`;
}

function moment(at: string): string {
  const time = new Date(at);
  return Number.isNaN(time.getTime()) ? "an unknown time" : `${formatTime(time)} ${zoneName()}`;
}

type Target = NonNullable<Settings["notify"]>[number];
export type On = NonNullable<Target["on"]>[number];

/** Kinds of news, as a person would name them. */
export const news: Record<On, string> = {
  rollback: "a rollback", pause: "a ramp that is held", fail: "a bad version that nothing was done about",
  error: "numbers that could not be read", promote: "a step of a ramp", done: "the end of a ramp",
};

function told(policy: Settings): string[] {
  const targets = policy.notify ?? [];
  if (targets.length === 0) return ["Nobody is told: decisions are found on this page only."];
  return targets.map((t) => {
    const of = (t.on ?? []).length === 0 ? "everything but single steps of a ramp" : join((t.on ?? []).map((on) => news[on]));
    return `${targetName(t)} ${t.type === "email" && (t.to ?? []).length > 1 ? "are" : "is"} told of ${of}${t.secret ? "; the message is signed" : ""}.`;
  });
}

const targetTypes: Record<Target["type"], string> = { webhook: "The webhook at", slack: "The Slack channel at", alertmanager: "The Alertmanager at", email: "" };

function targetName(t: Target): string {
  if (t.type === "email") return (t.to ?? []).length === 0 ? "Nobody by e-mail yet" : join(t.to ?? []);
  let host = "an address that is missing";
  try {
    host = new URL(t.url ?? "").host;
  } catch {
    // Being typed.
  }
  return `${targetTypes[t.type]} ${host}`;
}

function count(n: number, noun: string): string {
  return `${formatCount(n)} ${noun}${n === 1 ? "" : "s"}`;
}

function join(words: string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** What changed from one policy to another, a sentence each: those that went and those that came. */
export function difference(before: Settings, after: Settings): { gone: string[]; come: string[] } {
  const flat = (p: Settings): string[] => explain(p).flatMap((t) => t.sentences.map((s) => (t.title.endsWith("when") ? `${t.title}: ${s}` : s)));
  const a = flat(before);
  const b = flat(after);
  return { gone: a.filter((s) => !b.includes(s)), come: b.filter((s) => !a.includes(s)) };
}
