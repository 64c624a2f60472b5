import { afterEach, expect, test, vi } from "vitest";
import { within } from "./query";

afterEach(() => vi.useRealTimers());

/** A question that is never answered, as fetch asks it: it ends when it is aborted. */
const unanswered = (signal: AbortSignal): Promise<string> => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));

test("a question that nobody answers ends with a sentence", async () => {
  vi.useFakeTimers();
  const answer = within(30_000, unanswered, new AbortController().signal);
  const told = expect(answer).rejects.toThrow("has not answered for 30 seconds");
  await vi.advanceTimersByTimeAsync(30_000);
  await told;
});

test("an answer, a refusal and who waits no more are as they are without a bound", async () => {
  vi.useFakeTimers();
  const signal = new AbortController().signal;
  expect(await within(30_000, async () => "yes", signal)).toBe("yes");
  await expect(within(30_000, async () => { throw new Error("no"); }, signal)).rejects.toThrow("no");
  expect(vi.getTimerCount()).toBe(0);
  const left = new AbortController();
  const answer = within(30_000, unanswered, left.signal);
  left.abort(new Error("left"));
  await expect(answer).rejects.toThrow("left");
});
