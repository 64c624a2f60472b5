// Events as rows. A row opens the whole event.
import { formatMillis } from "../../lib/format";
import { formatTime, zone, zoneName } from "../../lib/time";
import { VersionName } from "../../ui/basics";
import { Table } from "../../ui/table";
import { pathOf, type TraceEvent } from "./event";
import { OutcomeBadge } from "./eventdialog";
import type { VersionFacts } from "./versions";

export interface EventRow {
  key: string;
  event: TraceEvent;
}

export function EventRows(props: { caption: string; rows: EventRow[]; versions: Map<string, VersionFacts> | undefined; onOpen: (event: TraceEvent) => void }) {
  return (
    <div class="events">
      <Table caption={props.caption} rows={props.rows} rowKey={(r) => r.key} columns={[
        { name: `Time (${zoneName()})`, cell: ({ event: e }) => <time class="nowrap" dateTime={iso(e.at)} title={formatTime(e.at, zone.value)}>{clockTime(e.at)}</time> },
        { name: "Version", cell: ({ event: e }) => <VersionName id={e.version.id} tag={e.version.tag || undefined} series={props.versions?.get(e.version.id)?.color} /> },
        { name: "Result", cell: ({ event: e }) => <OutcomeBadge event={e} /> },
        { name: "Request", heading: true, cell: ({ event: e }) => <button type="button" class="event-link" onClick={() => props.onOpen(e)}>{e.url ? `${e.method ?? ""} ${pathOf(e.url)}` : e.type || "event"}</button> },
        { name: "Wall time", number: true, cell: ({ event: e }) => formatMillis(e.wallMs) },
        { name: "What it said", cell: ({ event: e }) => <Said event={e} /> },
      ]} />
    </div>
  );
}

/** The time of day, with the date where that is not today's. */
function clockTime(at: Date): string {
  if (Number.isNaN(at.getTime())) return "–";
  const text = formatTime(at, zone.value);
  const today = formatTime(new Date(), zone.value).slice(0, 10);
  const clock = `${text.slice(11)}.${String(at.getMilliseconds()).padStart(3, "0")}`;
  return text.startsWith(today) ? clock : `${text.slice(0, 10)} ${clock}`;
}

function iso(at: Date): string | undefined {
  return Number.isNaN(at.getTime()) ? undefined : at.toISOString();
}

/** The first exception, else the newest line of the log. */
function Said({ event: e }: { event: TraceEvent }) {
  const [thrown] = e.exceptions;
  if (thrown) return <span class="said bad">{thrown.name}: {thrown.message}</span>;
  const line = e.logs.findLast((l) => l.level === "error" || l.level === "warn") ?? e.logs.at(-1);
  return line ? <span class="said">{line.text}</span> : null;
}
