import { expect, test } from "vitest";
import { ApiError } from "../../api/client";
import { advise } from "./advice";
import { bodyOf, differingMembers, draftOf, fieldErrors, newDraft, optionsOf, problemsOf, type Job } from "./draft";
import { readEscapes, showEscapes } from "./escapes";

const job: Job = {
  id: 7, dataset: "workers_trace_events", kind: "", name: "shop", enabled: true, destination_conf: "https://h/?hmac-secret=0123456789abcdef",
  filter: `{"where":{"key":"Outcome","operator":"eq","value":"ok"}}`, frequency: "low", max_upload_records: 0, max_upload_bytes: 5_000_000,
  output_options: { field_names: ["Outcome", "ScriptName"], output_type: "csv", batch_prefix: "a\n", record_delimiter: "", sample_rate: 0.5, "CVE-2021-44228": true, stringify_object: true, timestamp_format: "unix", record_template: "{{.Outcome}}" },
  last_complete: null, last_error: null, error_message: null,
};

test("a job goes through the form as it is", () => {
  const { id: _, kind: __, dataset: ___, destination_conf: ____, last_complete: _____, last_error: ______, error_message: _______, ...settings } = job;
  expect(bodyOf(draftOf(job), job)).toEqual(settings);
  expect(bodyOf(draftOf(job))).toEqual({ ...settings, dataset: job.dataset, destination_conf: job.destination_conf });
  expect(problemsOf(draftOf(job), job)).toEqual({});
});

test("two states of a job differ in the members that say something else, and not in what deliveries change", () => {
  expect(differingMembers(job, { ...job, last_complete: "2026-01-01T00:00:00Z", error_message: "refused" })).toEqual([]);
  const { filter: _, ...unfiltered } = job;
  expect(differingMembers(job, { ...unfiltered, enabled: false, output_options: { ...job.output_options, sample_rate: 1 } })).toEqual(["enabled", "output_options", "filter"]);
});

test("what is emptied is cleared, and what cannot be is said", () => {
  const draft = draftOf(job);
  const empty = { ...draft, filter: "", frequency: "", bounds: { ...draft.bounds, max_upload_bytes: "" } };
  expect(bodyOf(empty, job)).toMatchObject({ filter: "", frequency: "" });
  expect(Object.keys(problemsOf(empty, job))).toEqual(["/max_upload_bytes"]);
  expect(Object.keys(problemsOf({ ...newDraft(), sample: "half", fields: [], bounds: { ...draft.bounds, max_upload_records: "-1" } }))).toEqual(["/output_options/sample_rate", "/output_options/field_names", "/max_upload_records"]);
});

test("a new job says only what was asked for", () => {
  expect(bodyOf({ ...newDraft(), conf: "file:///a" })).toEqual({ name: "", enabled: true, dataset: "workers_trace_events", destination_conf: "file:///a", output_options: { field_names: ["*"], output_type: "ndjson" } });
});

test("the deprecated options say the same as the new ones", () => {
  expect(optionsOf("fields=Outcome,Logs&timestamps=rfc3339&sample=0.1&CVE-2021-44228=true")).toEqual({ field_names: ["Outcome", "Logs"], timestamp_format: "rfc3339", sample_rate: 0.1, "CVE-2021-44228": true });
  expect(optionsOf("")).toEqual({});
});

test("errors belong to the members that they point to", () => {
  const error = new ApiError(400, [{ code: 1002, message: "a", source: { pointer: "/output_options/field_names/3" } }, { code: 1002, message: "b", source: { pointer: "/filter" } }, { code: 1, message: "c" }], undefined);
  expect(fieldErrors(error)).toEqual({ "/output_options/field_names": "a", "/filter": "b" });
  expect(fieldErrors(new Error("x"))).toEqual({});
});

test("characters that nobody sees can be typed", () => {
  for (const text of ["", "\n", `"a"\t\\n\\`, "\u0001\u2028é", "\\u000a", "C:\\new"]) expect(readEscapes(showEscapes(text))).toBe(text);
  expect(readEscapes("\\x\\")).toBe("\\x\\");
  expect(readEscapes("\\u0041\\t")).toBe("A\t");
});

test("failures come with what to do", () => {
  expect(advise("status:403 Forbidden")).toMatch(/credentials/);
  expect(advise("upload a.log.gz: 503 no worker")).toMatch(/fault/);
  expect(advise("away", 1105)).toMatch(/host/);
  expect(advise("dial: connection refused", 0)).toMatch(/listens/);
  expect(advise("3 of 8 records of batch 3-1-78 were refused (400 no) and are dead letters")).toMatch(/send them again/);
  expect(advise("the dead letters of job 3 are full: 9 letters")).toMatch(/waits/);
  expect(advise("something else", 0)).toBeUndefined();
});
