// Numbers of a job's deliveries, from what its processes report.
import { useState } from "preact/hooks";
import { formatBytes, formatCount, formatMillis, unknown } from "../../lib/format";
import { Button, Time } from "../../ui/basics";
import { Table } from "../../ui/table";
import type { JobHealth } from "./api";
import { groupFailures } from "./failures";
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
  switched_off: "from before it was switched on again", too_long: "left out: longer than 8 MiB once formatted",
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
            { name: "Sent", number: true, cell: (u) => u.bytes_compressed === undefined ? unknown : formatBytes(u.bytes_compressed) },
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

const shownAtFirst = 10;

export function Failures({ job }: { job: JobHealth }) {
  const [all, setAll] = useState(false);
  const groups = groupFailures(job.failures);
  if (groups.length === 0) return null;
  const more = groups.length - shownAtFirst;
  return (
    <section class="panel" aria-labelledby="failures">
      <h2 id="failures">Failures</h2>
      <div class="stack">
        <Table caption="Failures, newest first" rows={all ? groups : groups.slice(0, shownAtFirst)} rowKey={(g) => `${g.firstOn} ${g.message}`} columns={[
          { name: "Last", cell: (g) => <Time at={g.lastOn} /> },
          { name: "What", heading: true, cell: (g) => <div class="logpush-failure">{g.message}{g.advice && <div class="small quiet">{g.advice}</div>}</div> },
          { name: "Times", number: true, cell: (g) => formatCount(g.times) },
          { name: "Partitions", number: true, cell: (g) => g.partitions.map((p) => p ?? "all").join(", ") },
          { name: "First", cell: (g) => <Time at={g.firstOn} absolute /> },
        ]} />
        {more > 0 && <div><Button compact aria-expanded={all} onClick={() => setAll(!all)}>{all ? `Show the newest ${shownAtFirst} only` : `Show ${more} more`}</Button></div>}
        <p class="small quiet">Failures that differ only in their batch are one row, with the newest message. The last 100 reports of failures are kept.</p>
      </div>
    </section>
  );
}
