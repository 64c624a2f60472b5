import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { follow, noTail, type Tail } from "./stream";

class Source {
  static readonly CLOSED = 2;
  static made: Source[] = [];
  readyState = 1;
  onopen = (): void => {};
  onerror = (): void => {};
  private told = new Map<string, (e: { data: string }) => void>();
  constructor() { Source.made.push(this); }
  addEventListener(name: string, f: (e: { data: string }) => void): void { this.told.set(name, f); }
  say(name: string, data: object): void { this.told.get(name)!({ data: JSON.stringify(data) }); }
  close(): void { this.readyState = Source.CLOSED; }
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("EventSource", Source);
  Source.made = [];
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

// A cut network ends no connection: the page said "Live" for as long as it was open, and nothing came.
test("a stream that falls silent is lost, and another one is opened", () => {
  let tail: Tail = noTail;
  const following = follow("/live", (t) => { tail = t; });
  const [first] = Source.made;
  first!.onopen();
  for (let i = 0; i < 4; i++) {
    vi.advanceTimersByTime(40_000);
    first!.say(i % 2 === 0 ? "heartbeat" : "event", { dropped: 3 });
  }
  vi.advanceTimersByTime(1000);
  expect(tail).toMatchObject({ state: "open", dropped: 3, notices: [] });
  vi.advanceTimersByTime(45_000);
  expect(first!.readyState).toBe(Source.CLOSED);
  expect(tail.state).toBe("reconnecting");
  const second = Source.made[1]!;
  second.onopen();
  second.say("heartbeat", { dropped: 1 });
  vi.advanceTimersByTime(1000);
  expect(tail).toMatchObject({ state: "open", dropped: 4 });
  expect(tail.notices[0]!.text).toContain("was lost for a while");
  following.close();
  vi.advanceTimersByTime(600_000);
  expect(Source.made).toHaveLength(2);
});

test("a stream that was refused is not opened again", () => {
  vi.stubGlobal("fetch", () => new Promise(() => {}));
  const following = follow("/live", () => {});
  const [source] = Source.made;
  source!.readyState = Source.CLOSED;
  source!.onerror();
  vi.advanceTimersByTime(600_000);
  expect(Source.made).toHaveLength(1);
  following.close();
});
