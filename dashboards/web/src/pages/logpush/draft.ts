// What the form of a job holds, as typed, and the body that it becomes.
import { ApiError, type Schemas } from "../../api/client";

export type Job = Schemas["Job"];
export type JobBody = Schemas["JobBody"];
export type OutputOptions = Schemas["OutputOptions"];

export const dataset = "workers_trace_events";

/** Stands for all fields of the dataset, also those that are added later. */
export const allFields = "*";

/** Options that are any text; undefined leaves the default. */
export const textOptions = ["batch_prefix", "batch_suffix", "record_prefix", "record_suffix", "record_delimiter", "field_delimiter"] as const;
export type TextOption = (typeof textOptions)[number];

export interface Draft {
  name: string;
  enabled: boolean;
  conf: string;
  challenge: string;
  filter: string;
  /** In the order in which they are written; [allFields] is all. */
  fields: string[];
  sample: string;
  type: "ndjson" | "csv";
  texts: Partial<Record<TextOption, string>>;
  template: string;
  timestamps: string;
  cve: boolean;
  stringify: boolean;
  frequency: string;
  bounds: Record<Bound, string>;
  /** RFC 3339, of a new job that sends what happened before, too; "" is not. */
  start: string;
}

export type Bound = "max_upload_records" | "max_upload_bytes" | "max_upload_interval_seconds";

export const bounds: Record<Bound, { label: string; from: number; to: number; hint: string }> = {
  max_upload_records: { label: "Records of a batch at most", from: 1000, to: 1_000_000, hint: "100,000 unless you say." },
  max_upload_bytes: { label: "Bytes of a batch at most, uncompressed", from: 5_000_000, to: 1_000_000_000, hint: "5,000,000 unless you say. Batches end at 100,000,000 whatever this allows." },
  max_upload_interval_seconds: { label: "Seconds that a batch waits at most", from: 30, to: 300, hint: "30 unless the operator says otherwise." },
};

export function newDraft(): Draft {
  return {
    name: "", enabled: true, conf: "", challenge: "", filter: "", fields: [allFields], sample: "", type: "ndjson", texts: {}, template: "", timestamps: "",
    cve: false, stringify: false, frequency: "", bounds: { max_upload_records: "", max_upload_bytes: "", max_upload_interval_seconds: "" }, start: "",
  };
}

export function draftOf(job: Job): Draft {
  const o = job.output_options ?? optionsOf(job.logpull_options ?? "");
  const draft = newDraft();
  const bound = (n: number | undefined): string => (n === undefined ? "" : String(n));
  for (const name of textOptions) if (o[name] !== undefined) draft.texts[name] = o[name];
  return {
    ...draft,
    name: job.name, enabled: job.enabled, conf: job.destination_conf, filter: job.filter ?? "",
    fields: o.field_names?.length ? o.field_names : [allFields],
    sample: o.sample_rate === undefined ? "" : String(o.sample_rate),
    type: o.output_type ?? "ndjson", template: o.record_template ?? "", timestamps: o.timestamp_format ?? "",
    cve: o["CVE-2021-44228"] ?? false, stringify: o.stringify_object ?? false, frequency: job.frequency ?? "",
    bounds: {
      max_upload_records: bound(job.max_upload_records), max_upload_bytes: bound(job.max_upload_bytes), max_upload_interval_seconds: bound(job.max_upload_interval_seconds),
    },
  };
}

/** What logpull_options, the deprecated query string, says as output_options do. */
export function optionsOf(logpull: string): OutputOptions {
  const query = new URLSearchParams(logpull);
  const o: OutputOptions = {};
  const fields = query.get("fields");
  if (fields) o.field_names = fields.split(",");
  const format = query.get("timestamps");
  if (format === "unixnano" || format === "unix" || format === "rfc3339") o.timestamp_format = format;
  if (query.has("sample")) o.sample_rate = Number(query.get("sample"));
  // Go's ParseBool, which the API reads it with.
  if (query.has("CVE-2021-44228")) o["CVE-2021-44228"] = ["1", "t", "T", "true", "TRUE", "True"].includes(query.get("CVE-2021-44228")!);
  return o;
}

function outputOf(d: Draft): OutputOptions {
  const o: OutputOptions = { field_names: d.fields, output_type: d.type };
  for (const name of textOptions) {
    const text = d.texts[name];
    if (text !== undefined) o[name] = text;
  }
  if (d.template !== "") o.record_template = d.template;
  if (d.timestamps !== "") o.timestamp_format = d.timestamps as NonNullable<OutputOptions["timestamp_format"]>;
  if (d.sample !== "") o.sample_rate = Number(d.sample);
  if (d.cve) o["CVE-2021-44228"] = true;
  if (d.stringify) o.stringify_object = true;
  return o;
}

/** The body of a create, or, with the job as it is stored, of an update. */
export function bodyOf(d: Draft, before?: Job): JobBody {
  const body: JobBody = { name: d.name, enabled: d.enabled, output_options: outputOf(d) };
  if (!before) body.dataset = dataset;
  // Left out, it keeps its value and needs no test: others may have changed it meanwhile.
  if (d.conf !== before?.destination_conf) body.destination_conf = d.conf;
  // Empty, these clear what was set before.
  if (d.filter !== "" || before?.filter) body.filter = d.filter;
  if (d.frequency !== "" || before?.frequency) body.frequency = d.frequency as NonNullable<JobBody["frequency"]>;
  for (const name of Object.keys(bounds) as Bound[]) if (d.bounds[name] !== "") body[name] = Number(d.bounds[name]);
  if (d.challenge !== "") body.ownership_challenge = d.challenge.trim();
  if (!before && d.start !== "") body.start = d.start;
  return body;
}

/** The members of a body that say something else of one job than of another. */
export function differingMembers(a: Job, b: Job): string[] {
  const [one, other] = [bodyOf(draftOf(a)), bodyOf(draftOf(b))];
  const names = Object.keys({ ...one, ...other }) as (keyof JobBody)[];
  return names.filter((n) => JSON.stringify(one[n]) !== JSON.stringify(other[n]));
}

/** Errors by the pointer of the member that they are about. */
export type FieldErrors = Record<string, string>;

/** What the body could not even say. The rest is for the API to judge. */
export function problemsOf(d: Draft, before?: Job): FieldErrors {
  const errors: FieldErrors = {};
  if (d.sample !== "" && !Number.isFinite(Number(d.sample))) errors["/output_options/sample_rate"] = "The sample rate is a number greater than 0 and at most 1.";
  if (d.fields.length === 0) errors["/output_options/field_names"] = "Choose a field at least, or all of them.";
  for (const name of Object.keys(bounds) as Bound[]) {
    const text = d.bounds[name];
    if (text === "" && before?.[name] !== undefined) errors[`/${name}`] = "A bound that was set cannot go back to the default: write 0 to turn it off.";
    else if (text !== "" && !/^\d+$/.test(text)) errors[`/${name}`] = "This is a whole number; 0 turns the bound off.";
  }
  return errors;
}

/** What the API said about single members. Members of lists count for the list. */
export function fieldErrors(error: unknown): FieldErrors {
  const errors: FieldErrors = {};
  if (!(error instanceof ApiError)) return errors;
  for (const { message, source } of error.messages) {
    const pointer = source?.pointer?.replace(/\/\d+$/, "");
    if (pointer) errors[pointer] = errors[pointer] ? `${errors[pointer]} ${message}` : message;
  }
  return errors;
}
