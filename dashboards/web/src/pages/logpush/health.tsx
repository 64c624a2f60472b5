// Numbers of a job's deliveries, from what its processes report.
import { formatBytes, formatCount, formatMillis, unknown } from "../../lib/format";
import { Time } from "../../ui/basics";
import { Table } from "../../ui/table";
import { advise } from "./advice";
import type { JobHealth } from "./api";
import { lagText } from "./parts";

type Upload = JobHealth["uploads"][number];

/** What became of uploads, as their statuses say it. */
function outcome(u: Upload): string {
  if (u.status === 200) return "Taken";
  const status = u.status === 0 ? "No answer" : `Status ${u.status}`;
  return u.final ? `${status}, refused for good` : `${status}, tried again`;
}

const dropReasons: Record<string, string> = {
  filter: "left out by the filter", sample: "left out by the sampling rate", logpush_disabled: "of scripts that opted out", deleted: "deleted by request",
  malformed: "not readable", retention: "lost: gone from Kafka before they were delivered", truncated: "lost with the end of a partition", undecodable: "lost in a batch that cannot be decoded",
};

export function Uploads({ job }: { job: JobHealth }) {
  const dropped = Object.entries(job.dropped).filter(([, n]) => n > 0);
  return (
    <section class="panel" aria-labelledby="uploads">
      <h2 id="uploads">Uploads in 24 hours</h2>
      <div class="stack">
        {job.uploads.length === 0 ? <p class="quiet">None yet. A batch leaves when it is full, or after its seconds.</p> : (
          <Table caption="Uploads by outcome" rows={job.uploads} rowKey={(u) => `${u.status} ${u.final}`} columns={[
            { name: "Outcome", heading: true, cell: outcome },
            { name: "Uploads", number: true, cell: (u) => formatCount(u.uploads) },
            { name: "Records", number: true, cell: (u) => formatCount(u.records) },
            { name: "Size", number: true, cell: (u) => formatBytes(u.bytes) },
            { name: "Sent", number: true, cell: (u) => formatBytes(u.bytes_compressed) },
            { name: "Mean time", number: true, cell: (u) => formatMillis(u.uploads > 0 ? u.duration_ms / u.uploads : null) },
          ]} />
        )}
        {dropped.length > 0 && <p>Events that were not sent: {dropped.map(([reason, n]) => `${formatCount(n)} ${dropReasons[reason] ?? reason}`).join(", ")}.</p>}
      </div>
    </section>
  );
}

export function Where({ job }: { job: JobHealth }) {
  return (
    <section class="panel" aria-labelledby="partitions">
      <h2 id="partitions">Partitions</h2>
      {job.partitions.length === 0 ? <p class="quiet">Nothing is reported yet.</p> : (
        <Table caption="How far the job is in each partition" rows={job.partitions} rowKey={(p) => String(p.partition)} columns={[
          { name: "Partition", heading: true, cell: (p) => p.partition },
          { name: "Delivered to", number: true, cell: (p) => formatCount(p.committed_offset) },
          { name: "Of", number: true, cell: (p) => formatCount(p.next_offset) },
          { name: "Lag", number: true, cell: (p) => lagText(p.lag_seconds) },
          { name: "Reported", cell: (p) => <Time at={p.reported_on} /> },
          { name: "Failure", cell: (p) => p.error_message ? <div class="logpush-message">{p.error_message}</div> : unknown },
        ]} />
      )}
    </section>
  );
}

export function Failures({ job }: { job: JobHealth }) {
  if (job.failures.length === 0) return null;
  return (
    <section class="panel" aria-labelledby="failures">
      <h2 id="failures">Failures</h2>
      <Table caption="Failures, newest first" rows={job.failures} rowKey={(f) => `${f.partition} ${f.first_on} ${f.message}`} columns={[
        { name: "Last", cell: (f) => <Time at={f.last_on} /> },
        { name: "What", heading: true, cell: (f) => <div class="logpush-failure">{f.message}{advise(f.message) && <div class="small quiet">{advise(f.message)}</div>}</div> },
        { name: "Times", number: true, cell: (f) => formatCount(f.times) },
        { name: "Partition", number: true, cell: (f) => f.partition ?? "all" },
        { name: "First", cell: (f) => <Time at={f.first_on} absolute /> },
      ]} />
    </section>
  );
}
