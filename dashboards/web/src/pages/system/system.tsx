// How every part of the platform is, and what to do where one is not well.
import type { ComponentChildren } from "preact";
import { ApiError, get, path, type Schemas } from "../../api/client";
import { formatBytes, formatCount, formatMillis } from "../../lib/format";
import { useQuery } from "../../lib/query";
import { formatDuration } from "../../lib/time";
import { Badge, Loading, Problem, Time, type Tone } from "../../ui/basics";
import { Page } from "../../ui/page";
import { Table } from "../../ui/table";
import "../../styles/system.css";

type Health = Schemas["SystemHealth"];
type Part = Schemas["SystemPart"];
type State = Schemas["PartState"];

const every = 5000;

const states: Record<State, [tone: Tone | undefined, word: string, whole: string]> = { // the worst last
  ok: ["good", "In order", "Every part is in order"],
  unknown: [undefined, "Unknown", "Nobody can tell how some parts are"],
  degraded: ["warn", "Degraded", "It works, and something is wrong"],
  down: ["bad", "Down", "At least one part is down"],
};

const order = Object.keys(states);

export default function SystemPage() {
  const answer = useQuery("system health", (signal) => get<Health>(path("system", "health"), { signal }), { every });
  const health = answer.data;
  return (
    <Page title="System">
      <div class="stack">
        <Problem error={answer.error} what="The state of the system could not be read." older={health !== undefined} retry={answer.reload} />
        {unanswered(answer.error) && <p class="note">The database or the control plane does not answer. <strong>What to do:</strong> see that a process with the role jobs-api runs and reaches the database that its --database names; its log has the error. Gateways go on with the deployments that they have.</p>}
        {health ? <Whole health={health} /> : !answer.error && <Loading what="the state of every part" />}
      </div>
    </Page>
  );
}

/** Without its database the control plane cannot tell who asks, and so not how the parts are. */
function unanswered(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 0 || error.status >= 500);
}

function Whole({ health }: { health: Health }) {
  const [tone, , sentence] = states[health.state];
  const worst = health.state === "ok" ? [] : health.parts.filter((p) => p.state === health.state).map(titleOf);
  return (
    <>
      <div class={`note ${tone ?? ""}`}>
        <p role="status"><strong>{sentence}{worst.length > 0 && `: ${worst.join(", ")}`}.</strong></p>
        <p class="small">Read <Time at={health.at} />, and again every {every / 1000} seconds. Control plane {health.version}{health.revision !== undefined && <>, newest snapshot {formatCount(health.revision)}</>}.</p>
      </div>
      <div class="parts">
        {health.parts.toSorted((a, b) => order.indexOf(b.state) - order.indexOf(a.state)).map((p) => <PartPanel key={`${p.kind} ${p.name}`} part={p} />)}
      </div>
    </>
  );
}

function PartPanel({ part }: { part: Part }) {
  const [tone, word] = states[part.state];
  return (
    <section class="panel part" aria-label={titleOf(part)}>
      <div class="row spread"><h2>{titleOf(part)}</h2><Badge tone={tone}>{word}</Badge></div>
      <div class="stack">
        <p>{part.sentence}</p>
        {part.advice && <p class="part-advice"><strong>What to do:</strong> {part.advice}</p>}
        {part.answered_ms !== undefined && <Facts><Fact name="Answered in">{formatMillis(part.answered_ms)}</Fact></Facts>}
        {part.ingest && <Ingest ingest={part.ingest} />}
        {part.router && <Router router={part.router} />}
        {part.delivery && <Delivery delivery={part.delivery} />}
        {part.lease && <Facts><Fact name="Held by"><code>{part.lease.holder}</code></Fact><Fact name="Until, unless renewed"><Time at={part.lease.expires_on} /></Fact></Facts>}
        {part.outbox && <Facts><Fact name="Waiting">{formatCount(part.outbox.waiting)}</Fact><Fact name="Oldest"><Time at={part.outbox.oldest_on} /></Fact><Fact name="Given up within a day">{formatCount(part.outbox.failed_today)}</Fact></Facts>}
      </div>
    </section>
  );
}

function titleOf(part: Part): string {
  return part.kind === "router" && part.name !== "router" ? `Router ${part.name}` : part.name.charAt(0).toUpperCase() + part.name.slice(1) || part.kind;
}

const Facts = (props: { children: ComponentChildren }) => <dl class="facts">{props.children}</dl>;
const Fact = (props: { name: string; children: ComponentChildren }) => <div><dt>{props.name}</dt><dd>{props.children}</dd></div>;

function Ingest({ ingest }: { ingest: Schemas["IngestHealth"] }) {
  const partitions = ingest.partitions ?? [];
  return (
    <>
      <Facts>
        <Fact name="Events that wait">{formatCount(ingest.lag_events)}</Fact>
        <Fact name="Newest event stored"><Time at={ingest.newest_event_on} /></Fact>
      </Facts>
      {partitions.length > 0 && (
        <details>
          <summary>Lag by partition</summary>
          <Table caption="Lag of ingest by partition" rows={partitions} rowKey={(p) => String(p.partition)} columns={[
            { name: "Partition", heading: true, cell: (p) => p.partition },
            { name: "Stored up to offset", number: true, cell: (p) => formatCount(p.committed_offset) },
            { name: "Next offset", number: true, cell: (p) => formatCount(p.next_offset) },
            { name: "Events that wait", number: true, cell: (p) => formatCount(p.lag_events) },
          ]} />
        </details>
      )}
    </>
  );
}

function Router({ router }: { router: Schemas["RouterHealth"] }) {
  const drops = Object.entries(router.dropped).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
  const lost = drops.reduce((sum, [, n]) => sum + n, 0);
  return (
    <>
      <Facts>
        <Fact name="Last word"><Time at={router.reported_on} /></Fact>
        <Fact name="Snapshot">{formatCount(router.revision)}</Fact>
        <Fact name="Spool on disk">{formatBytes(router.spool_bytes)} of {formatBytes(router.spool_bytes_max)}</Fact>
        <Fact name="Events in memory">{formatCount(router.queue_events)}</Fact>
        <Fact name="Events sent">{formatCount(router.events_sent)}</Fact>
        <Fact name="Events lost">{formatCount(lost)}</Fact>
        <Fact name="Version">{router.version}</Fact>
        <Fact name="Running since"><Time at={router.started_on} /></Fact>
      </Facts>
      {drops.length > 0 && (
        <Table caption="Events lost since the router started, by reason" rows={drops} rowKey={([reason]) => reason} columns={[
          { name: "Lost because", heading: true, cell: ([reason]) => <code>{reason}</code> },
          { name: "Events", number: true, cell: ([, n]) => formatCount(n) },
        ]} />
      )}
    </>
  );
}

function Delivery({ delivery }: { delivery: Schemas["DeliveryHealth"] }) {
  return (
    <>
      <Facts>
        <Fact name="Jobs switched on">{formatCount(delivery.enabled)} of {formatCount(delivery.jobs)}</Fact>
        <Fact name="Records that wait">{formatCount(delivery.lag_events)}</Fact>
        <Fact name="Farthest behind">{delivery.lag_seconds === undefined ? "–" : formatDuration(delivery.lag_seconds)}</Fact>
      </Facts>
      {delivery.failing.length > 0 && (
        <Table caption="Jobs that cannot deliver" rows={delivery.failing} rowKey={(j) => String(j.job_id)} columns={[
          { name: "Job", heading: true, cell: (j) => <a href={`/${j.account_id}/logpush/${j.job_id}`}>{j.name || `Job ${j.job_id}`}</a> },
          { name: "Failing since", cell: (j) => <Time at={j.failing_since} /> },
          { name: "Switched off", cell: (j) => <Time at={j.disabled_on} /> },
        ]} />
      )}
    </>
  );
}
