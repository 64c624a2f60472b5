// Events as rows. A row opens the whole event.
import type { ComponentChildren } from "preact";
import { useMemo, useRef } from "preact/hooks";
import { serverNow } from "../../lib/clock";
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

interface Props {
  caption: string;
  rows: EventRow[];
  versions: Map<string, VersionFacts> | undefined;
  onOpen: (event: TraceEvent) => void;
}

type Cells = Record<"time" | "result" | "request" | "version" | "wall" | "said", ComponentChildren>;

export function EventRows(props: Props) {
  const open = useRef(props.onOpen);
  open.current = props.onOpen;
  // Cells are made once for each event: hundreds of rows stay as they are while a few come in.
  const made = useMemo(() => new WeakMap<TraceEvent, Cells>(), [props.versions, zone.value]);
  const cells = ({ event }: EventRow): Cells => {
    let known = made.get(event);
    if (!known) {
      known = makeCells(event, props.versions, () => open.current(event));
      made.set(event, known);
    }
    return known;
  };
  return (
    <div class="events">
      <Table caption={props.caption} rows={props.rows} rowKey={(r) => r.key} columns={[
        { name: `Time (${zoneName()})`, cell: (r) => cells(r).time },
        { name: "Result", cell: (r) => cells(r).result },
        { name: "Request", heading: true, cell: (r) => cells(r).request },
        { name: "Version", cell: (r) => cells(r).version },
        { name: "Wall time", number: true, cell: (r) => cells(r).wall },
        { name: "What it said", cell: (r) => cells(r).said },
      ]} />
    </div>
  );
}

function makeCells(e: TraceEvent, versions: Map<string, VersionFacts> | undefined, open: () => void): Cells {
  return {
    time: <time class="nowrap" dateTime={iso(e.at)} title={formatTime(e.at, zone.value)}>{clockTime(e.at)}</time>,
    result: <OutcomeBadge event={e} />,
    request: <button type="button" class="event-link" onClick={open}>{e.url ? `${e.method ?? ""} ${pathOf(e.url)}` : e.type || "event"}</button>,
    version: <VersionName id={e.version.id} tag={e.version.tag || undefined} series={versions?.get(e.version.id)?.color} />,
    wall: formatMillis(e.wallMs),
    said: <Said event={e} />,
  };
}

/** The time of day, with the date where that is not today's. */
function clockTime(at: Date): string {
  if (Number.isNaN(at.getTime())) return "–";
  const text = formatTime(at, zone.value);
  const today = formatTime(serverNow(), zone.value).slice(0, 10);
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
