// A job's settings in short.
import type { ComponentChildren } from "preact";
import { useQuery } from "../../lib/query";
import { LinkButton, Loading, Problem } from "../../ui/basics";
import { loadJob } from "./api";
import { allFields, optionsOf, textOptions, type Job, type OutputOptions } from "./draft";
import { showEscapes } from "./escapes";
import { describeFilter, parseFilter } from "./filter";

export function Summary(props: { account: string; id: string; destination: string }) {
  const stored = useQuery(`logpush job ${props.account} ${props.id}`, (signal) => loadJob(props.account, props.id, signal));
  return (
    <section class="panel" aria-labelledby="settings">
      <div class="row spread"><h2 id="settings">Settings</h2><LinkButton compact href={`/${props.account}/logpush/${props.id}/edit`}>Edit the settings</LinkButton></div>
      <Problem error={stored.error} what="The settings could not be read." retry={stored.reload} />
      {!stored.data && stored.loading && <Loading what="the settings" />}
      {stored.data && <Rows rows={rowsOf(stored.data.job, props.destination)} />}
    </section>
  );
}

type Row = [name: string, value: ComponentChildren];

function Rows(props: { rows: Row[] }) {
  return <dl class="logpush-rows">{props.rows.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>;
}

function rowsOf(job: Job, destination: string): Row[] {
  const o = job.output_options ?? optionsOf(job.logpull_options ?? "");
  const bounds = [
    job.max_upload_records !== undefined && `${job.max_upload_records.toLocaleString("en")} records`,
    job.max_upload_bytes !== undefined && `${job.max_upload_bytes.toLocaleString("en")} bytes`,
    job.max_upload_interval_seconds !== undefined && `${job.max_upload_interval_seconds} seconds`,
  ].filter((text) => text !== false);
  const rows: Row[] = [
    ["Id", job.id],
    ["Dataset", <code>{job.dataset}</code>],
    ["Destination", <code class="logpush-destination">{destination}</code>],
    ["Events", job.filter ? filterText(job.filter) : "all"],
    ["Sampling rate", o.sample_rate === undefined || o.sample_rate === 1 ? "all that the filter lets through" : o.sample_rate],
    ["Fields", fieldsText(o)],
    ["Format", formatText(o)],
    ["Batches", bounds.length > 0 ? `${bounds.join(", ")} at most; 0 is no bound` : job.frequency ? `frequency ${job.frequency}` : "the defaults"],
  ];
  const texts = textOptions.filter((name) => o[name] !== undefined);
  if (texts.length > 0) rows.push(["Text around records", <ul class="logpush-plain">{texts.map((name) => <li key={name}><code>{name}</code>: <code>{showEscapes(o[name]!) || "nothing"}</code></li>)}</ul>]);
  if (o.record_template) rows.push(["Template", <code class="logpush-destination">{o.record_template}</code>]);
  return rows;
}

function filterText(text: string): ComponentChildren {
  try {
    return `when ${describeFilter(parseFilter(text))}`;
  } catch {
    return <code class="logpush-destination">{text}</code>;
  }
}

function fieldsText(o: OutputOptions): string {
  const names = o.field_names ?? [];
  return names.length === 0 || names[0] === allFields ? "all of the dataset" : names.join(", ");
}

function formatText(o: OutputOptions): string {
  return [
    o.output_type === "csv" ? "CSV" : "ndjson", o.timestamp_format && `times as ${o.timestamp_format}`,
    o.stringify_object && "objects as text", o["CVE-2021-44228"] && "safe for an old Log4j",
  ].filter(Boolean).join(", ");
}
