// Runs a policy over the past, and follows how far that is.
import { ApiError, refuse, send, scriptPath, type Message, type Schemas } from "../../api/client";
import { capital, formatCount } from "../../lib/format";
import { formatDuration } from "../../lib/time";
import type { Deployment } from "./api";
import { limitName, type Settings } from "./limits";

export type Backtest = Schemas["Backtest"];
export type BacktestTrial = Backtest["trials"][number];

export interface Progress {
  since: string;
  until: string;
  at: string;
}

export interface ServerEvent {
  name: string;
  data: string;
}

/** Takes whole server-sent events off the beginning of `text`; `rest` is what has not ended yet. */
export function takeEvents(text: string): { events: ServerEvent[]; rest: string } {
  const parts = text.replaceAll("\r\n", "\n").split("\n\n");
  const rest = parts.pop() ?? "";
  const events = parts.flatMap((part) => {
    let name = "message";
    const data: string[] = [];
    for (const line of part.split("\n")) {
      if (line.startsWith("event:")) name = line.slice(6).trim();
      if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
    }
    return data.length > 0 ? [{ name, data: data.join("\n") }] : [];
  });
  return { events, rest };
}

/** The share of a backtest that is done, 0 to 1. */
export function done(p: Progress): number {
  const [since, until, at] = [Date.parse(p.since), Date.parse(p.until), Date.parse(p.at)];
  return until > since ? Math.min(Math.max((at - since) / (until - since), 0), 1) : 0;
}

/** Resolves with the result; rejects with what the API refused, or when `signal` aborts. */
export async function runBacktest(account: string, script: string, policy: Settings, since: Date | undefined, signal: AbortSignal, told: (p: Progress) => void): Promise<Backtest> {
  const body = { policy, ...(since ? { since: since.toISOString() } : {}) };
  const response = await send("POST", scriptPath(account, script, "rollback-policy", "backtest"), { body, signal, headers: { Accept: "text/event-stream" } });
  if (!response.ok) return refuse(response);
  if (!(response.headers.get("Content-Type") ?? "").startsWith("text/event-stream")) return ((await response.json()) as { result: Backtest }).result;
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done: ended } = await reader.read();
    if (ended) throw new ApiError(0, [{ code: 0, message: "The connection ended before the backtest did: run it again." }], undefined);
    const taken = takeEvents(text + value);
    text = taken.rest;
    for (const event of taken.events) {
      if (event.name === "progress") told(JSON.parse(event.data) as Progress);
      if (event.name === "result") return JSON.parse(event.data) as Backtest;
      if (event.name === "error") throw new ApiError(503, [JSON.parse(event.data) as Message], undefined);
    }
  }
}

/**
 * The newest deployment, if the replay ended before it: seconds are replayed when all of their events are counted,
 * so a backtest ends two minutes before it was asked for, which its answer tells by `until`.
 */
export function tooNew(result: Pick<Backtest, "until">, newest: Pick<Deployment, "created_on"> | undefined): string | undefined {
  return newest && Date.parse(newest.created_on) >= Date.parse(result.until) ? newest.created_on : undefined;
}

/** Seconds between two moments as they are shown, without their fractions: both lengths and times fit together then. */
export function secondsBetween(from: string, to: string): number {
  return Math.floor(Date.parse(to) / 1000) - Math.floor(Date.parse(from) / 1000);
}

/** "avoided about 12 failed requests", of a number that is known. */
export function avoided(failures: number): string {
  if (failures < 1) return "avoided no failed request";
  const whole = Math.round(failures);
  return `avoided about ${formatCount(whole)} failed ${whole === 1 ? "request" : "requests"}`;
}

/** What acting on so many trials would have avoided: goes on after "it would have acted on 2 of 3 trials", up to the end of the sentence. */
export function avoidedInAll(result: Pick<Backtest, "failures_saved" | "failures_saved_unknown">, acted: number): string {
  if (result.failures_saved === undefined) return "; how many failed requests that would have avoided is not known";
  const unknown = result.failures_saved_unknown;
  return `, and ${avoided(result.failures_saved)}${unknown === 0 ? "" : ` in ${formatCount(acted - unknown)} of them; how many in the rest is not known`}`;
}

function avoidedInTrial(failures: number | undefined): string {
  if (failures === undefined) return "How many failed requests that would have avoided is not known: too little is known of the baseline.";
  const why = failures < 1 ? ": from then on the version failed no more than the baseline" : "";
  return `It would have ${avoided(failures)}${why}.`;
}

/** What the policy would have done in a trial in which it would have acted, a sentence each. */
export function verdict(trial: Pick<BacktestTrial, "since" | "failed_at" | "metric" | "sentence" | "failures_saved">): string[] {
  if (trial.failed_at === undefined) return [];
  const after = secondsBetween(trial.since, trial.failed_at);
  return [
    `It would have acted ${after < 1 ? "within 1 s" : `after ${formatDuration(after)}`}, because of the ${limitName(trial.metric ?? "")}.`,
    `${capital(trial.sentence ?? "")}.`,
    avoidedInTrial(trial.failures_saved),
  ];
}
