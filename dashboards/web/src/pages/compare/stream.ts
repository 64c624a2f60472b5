// The live tail. However fast events come, what is shown changes a few times a second,
// and only the newest are kept.
import { serverNow } from "../../lib/clock";
import { send, refuse } from "../../api/client";
import { readEvent, type TraceEvent } from "./event";

/** The most events that a page keeps. */
export const keptMax = 500;

/** Milliseconds between two changes of what is shown. */
const showEvery = 300;

/** Milliseconds in which something must be heard: three times what lies between two of the server's heartbeats. */
const silence = 45_000;

export interface Kept {
  /** Counts what came, from 1. */
  id: number;
  event: TraceEvent;
}

export interface Tail {
  state: "connecting" | "open" | "reconnecting" | "closed";
  /** Newest first. */
  kept: Kept[];
  /** All that came on this page, those that are no longer kept among them. */
  received: number;
  /** Events that the server says it left out because they came too fast. */
  dropped: number;
  /** Sentences of the server about the stream, newest first. */
  notices: { at: Date; text: string }[];
  /** Why the server refused the stream. */
  error: unknown;
}

export const noTail: Tail = { state: "connecting", kept: [], received: 0, dropped: 0, notices: [], error: undefined };

const noticesMax = 20;

/** What has come since what is shown was shown last. Values are not even parsed unless they will be kept. */
export class Inbox {
  private waiting: { id: number; value: string }[] = [];
  private count = 0;

  put(value: string): void {
    this.waiting.push({ id: ++this.count, value });
    // Twice as many, so that this is done rarely.
    if (this.waiting.length >= 2 * keptMax) this.waiting = this.waiting.slice(-keptMax);
  }

  get received(): number {
    return this.count;
  }

  get size(): number {
    return Math.min(this.waiting.length, keptMax);
  }

  /** Adds what waits to what is kept. */
  into(kept: readonly Kept[]): Kept[] {
    const fresh = this.waiting.slice(-keptMax).reverse().map(({ id, value }): Kept => ({ id, event: readEvent(JSON.parse(value) as object) }));
    this.waiting = [];
    return [...fresh, ...kept].slice(0, keptMax);
  }
}

export interface Following {
  /** Holds events back, or shows those that came meanwhile. */
  pause: (paused: boolean) => void;
  clear: () => void;
  close: () => void;
}

/** Follows a stream. `show` gets each new state, a few times a second at most; `waiting` says how many are held back. */
export function follow(url: string, show: (tail: Tail, waiting: number) => void): Following {
  let tail = noTail;
  let paused = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let droppedBefore = 0; // by earlier connections: each counts from zero
  let droppedNow = 0;
  let lost = false;
  const inbox = new Inbox();
  const asked = new AbortController();
  let source: EventSource;
  let watch: ReturnType<typeof setTimeout> | undefined;

  const flush = (): void => {
    timer = undefined;
    tail = { ...tail, received: inbox.received, kept: paused ? tail.kept : inbox.into(tail.kept) };
    show(tail, paused ? inbox.size : 0);
  };
  const change = (changes: Partial<Tail>): void => {
    tail = { ...tail, ...changes };
    timer ??= setTimeout(flush, showEvery);
  };
  const json = (e: Event): Record<string, unknown> => JSON.parse((e as MessageEvent<string>).data) as Record<string, unknown>;

  const note = (text: string): void => change({ notices: [{ at: serverNow(), text }, ...tail.notices].slice(0, noticesMax) });

  const loseIt = (): void => {
    droppedBefore += droppedNow;
    droppedNow = 0;
    lost = true;
    change({ state: "reconnecting" });
  };
  // A connection whose other end is gone without a word stays open for the browser.
  const hear = (): void => {
    clearTimeout(watch);
    watch = setTimeout(() => {
      source.close();
      loseIt();
      connect();
    }, silence);
  };

  const connect = (): void => {
    source = new EventSource(url);
    hear();
    source.onopen = () => {
      hear();
      change({ state: "open" });
      if (lost) note("The connection was lost for a while. What came meanwhile is not here, but among the stored events.");
      lost = false;
    };
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) {
        loseIt();
        return;
      }
      // A refusal is final, and EventSource does not tell its sentences: ask for them.
      clearTimeout(watch);
      change({ state: "closed" });
      void refusal(url, asked.signal).then((error) => change({ error }), () => {});
    };
    source.addEventListener("event", (e) => {
      hear();
      inbox.put((e as MessageEvent<string>).data);
      timer ??= setTimeout(flush, showEvery);
    });
    source.addEventListener("notice", (e) => {
      hear();
      note(String(json(e)["message"]));
    });
    source.addEventListener("heartbeat", (e) => {
      hear();
      droppedNow = Number(json(e)["dropped"]) || 0;
      change({ state: "open", dropped: droppedBefore + droppedNow });
    });
  };
  connect();
  return {
    pause: (on) => { paused = on; flush(); },
    clear: () => { inbox.into([]); change({ kept: [], notices: [] }); },
    close: () => { source.close(); asked.abort(); clearTimeout(timer); clearTimeout(watch); },
  };
}

/** The error that a stream is refused with. */
async function refusal(url: string, signal: AbortSignal): Promise<unknown> {
  const stop = new AbortController();
  try {
    const response = await send("GET", url, { signal: AbortSignal.any([signal, stop.signal]) });
    if (!response.ok) await refuse(response);
    return new Error("The server ended the stream. Connect again.");
  } catch (error) {
    if (signal.aborted) throw error;
    return error;
  } finally {
    stop.abort();
  }
}
