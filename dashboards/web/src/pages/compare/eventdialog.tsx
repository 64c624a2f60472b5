// One request with all that is known of it. Its ray is in the address.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { get, path } from "../../api/client";
import { formatMillis, unknown } from "../../lib/format";
import { useQuery } from "../../lib/query";
import { formatTime, zone, zoneName } from "../../lib/time";
import { scriptPage } from "../../lib/url";
import { Badge, Copy, Dialog, Loading, Problem, Segments, Time, VersionName } from "../../ui/basics";
import { Table } from "../../ui/table";
import { decisionText, pathOf, readEvent, type LogLine, type Thrown, type TraceEvent } from "./event";

/** `known` is shown at once, and where the event is not stored yet. */
export function EventDialog(props: { account: string; script: string; ray: string; known?: TraceEvent | undefined; onClose: () => void }) {
  const { account, ray, known } = props;
  const ask = async (signal: AbortSignal): Promise<TraceEvent[]> =>
    (await get<{ events: object[] }>(path("accounts", account, "workers", "events", ray), { signal })).events.map(readEvent);
  const answer = useQuery(`ray ${account} ${ray}`, ask, { enabled: ray !== "" });
  const events = answer.data ?? (known ? [known] : []);
  const [chosen, setChosen] = useState<string>();
  const mine = events.findIndex((e) => e.script === props.script);
  const index = chosen === undefined ? Math.max(0, mine) : Number(chosen);
  const event = events[index];
  return (
    <Dialog title={event?.url ? `${event.method} ${pathOf(event.url)}` : ray ? `Event of ray ${ray}` : "Event"} wide onClose={props.onClose}>
      {answer.loading && events.length === 0 && <Loading what="the event" />}
      {!known && <Problem error={answer.error} what={`The events of ray ${ray} could not be read.`} retry={answer.reload} />}
      {events.length > 1 && (
        <Segments label="Events of this ray" value={String(index)} onChange={setChosen} options={events.map((e, i) => [String(i), `${e.script}${e.entrypoint ? ` · ${e.entrypoint}` : ""}`] as const)} />
      )}
      {event && <EventFacts event={event} account={account} />}
      <div class="actions">
        {ray && <Copy text={`${location.origin}${scriptPage(account, event?.script || props.script, "live")}?ray=${ray}`} what="link to this event" label="Copy link" />}
        {event && <Copy text={JSON.stringify(event.raw, null, 2)} what="event as JSON" label="Copy event as JSON" />}
        <button type="button" class="button" onClick={props.onClose}>Close</button>
      </div>
    </Dialog>
  );
}

export function OutcomeBadge(props: { event: Pick<TraceEvent, "failed" | "outcome" | "status"> }) {
  const { failed, outcome, status } = props.event;
  const text = outcome === "ok" && status !== undefined ? String(status) : status === undefined ? outcome : `${outcome} ${status}`;
  return <Badge tone={failed ? "bad" : outcome === "ok" && (status ?? 0) < 400 ? "good" : "warn"}>{text}</Badge>;
}

function EventFacts({ event: e, account }: { event: TraceEvent; account: string }) {
  const versions = scriptPage(account, e.script, "versions");
  const facts: [string, ComponentChildren][] = [
    ["Result", <OutcomeBadge event={e} />],
    ["Time", <><Time at={e.at} absolute /> <span class="small quiet">{zoneName()}</span></>],
    ["Script", e.script],
    ["Version", <VersionName id={e.version.id} tag={e.version.tag} href={`${versions}/${e.version.id}`} />],
    ["Version was", decisionText(e) ?? unknown],
    ["Wall time", formatMillis(e.wallMs)],
    ["Upstream", formatMillis(e.upstreamMs)],
    ["CPU time", formatMillis(e.cpuMs)],
    ["Ray", e.ray ? <code>{e.ray}</code> : unknown],
    ["Kind", `${e.type}${e.entrypoint ? `, entry point ${e.entrypoint}` : ""}`],
  ];
  if (e.errorKind) facts.push(["Backend error", e.errorKind]);
  if (e.sampledOut > 0) facts.push(["Stands for", `${e.sampledOut} more like it, which sampling left out`]);
  return (
    <div class="stack event">
      <dl class="facts">{facts.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
      {e.url && (
        <section class="stack">
          <h3>Request</h3>
          <p class="mono break">{e.method} {e.url}</p>
          {e.headers.length > 0 && <Table caption="Headers of the request" rows={e.headers} rowKey={(h) => h.name} columns={[
            { name: "Header", heading: true, cell: (h) => <code>{h.name}</code> }, { name: "Value", cell: (h) => <code class="break">{h.value}</code> },
          ]} />}
        </section>
      )}
      <Exceptions list={e.exceptions} failed={e.failed} />
      <Logs list={e.logs} />
    </div>
  );
}

function Exceptions(props: { list: Thrown[]; failed: boolean }) {
  if (props.list.length === 0) return props.failed ? <p class="quiet">The script threw no exception.</p> : null;
  return (
    <section class="stack">
      <h3>Exceptions</h3>
      {props.list.map((x, i) => (
        <div key={i} class="note bad">
          <p><strong>{x.name}</strong>: {x.message}</p>
          {x.stack && <pre tabIndex={0} aria-label={`Stack of ${x.name}`}>{x.stack}</pre>}
        </div>
      ))}
    </section>
  );
}

function Logs(props: { list: LogLine[] }) {
  return (
    <section class="stack">
      <h3>Logs</h3>
      {props.list.length === 0
        ? <p class="quiet">The script logged nothing.</p>
        : (
          <ol class="logs">
            {props.list.map((l, i) => (
              <li key={i}>
                <span class="small quiet nowrap">{l.at ? `${formatTime(l.at, zone.value).slice(11)}.${String(l.at.getMilliseconds()).padStart(3, "0")}` : unknown}</span>
                <Badge tone={l.level === "error" ? "bad" : l.level === "warn" ? "warn" : undefined}>{l.level}</Badge>
                <code class="break">{l.text}</code>
              </li>
            ))}
          </ol>
        )}
    </section>
  );
}
