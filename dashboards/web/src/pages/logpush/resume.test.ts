import { expect, test } from "vitest";
import type { JobState } from "./api";
import { lagText, lastError } from "./parts";
import { missedFrom } from "./resume";

const job: JobState = {
  job_id: 7, name: "shop", dataset: "workers_trace_events", destination: "https://h/***", state: "degraded", failing_since: null, disabled_on: null,
  last_complete: "2026-11-28T12:00:00Z", last_error: null, error_message: null, lag_events: 3, lag_seconds: 9.6, dead_letters: 206, complete_until: "2026-11-28T11:59:41Z",
  last_failure: { partition: null, first_on: "2026-11-28T11:58:00Z", last_on: "2026-11-28T11:58:30Z", times: 2, message: "1 of 8 records were refused" },
};

test("what was missed is sent from before the place where the slowest partition stood", () => {
  expect(missedFrom(job.complete_until)).toBe("2026-11-28T11:58:41.000Z");
  expect(missedFrom(null)).toBeUndefined();
});

test("a job that is not well shows what went wrong last, also after a success has cleared it", () => {
  expect(lastError(job)).toEqual({ message: "1 of 8 records were refused", at: "2026-11-28T11:58:30Z" });
  expect(lastError({ ...job, error_message: "away", last_error: "2026-11-28T12:00:01Z" })).toEqual({ message: "away", at: "2026-11-28T12:00:01Z" });
  for (const state of ["ok", "disabled"] as const) expect(lastError({ ...job, state })).toBeUndefined();
  expect(lastError({ ...job, last_failure: null })).toBeUndefined();
});

test("a lag is no more exact than the reports that it comes from", () => {
  expect([null, 0, 9.6, 90].map((s) => lagText(s))).toEqual(["–", "none", "at most 10 s", "1 min 30 s"]);
});
