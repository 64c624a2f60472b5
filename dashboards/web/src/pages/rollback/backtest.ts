// Runs a policy over the past, and follows how far that is.
import { ApiError, refuse, send, scriptPath, type Message, type Schemas } from "../../api/client";
import type { Settings } from "./limits";

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
