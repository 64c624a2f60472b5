// Sends a range of time again, and shows how far that is.
import "../../styles/logpush.css";
import { useState } from "preact/hooks";
import { useRoute } from "preact-iso";
import { call, get } from "../../api/client";
import { formatBytes, formatCount } from "../../lib/format";
import { useAction, useQuery } from "../../lib/query";
import { may } from "../../session";
import { Badge, Button, Confirm, Empty, Loading, Note, Problem, Time, type Tone } from "../../ui/basics";
import { toast } from "../../ui/toast";
import { jobPath, type JobHealth, type Replay } from "./api";
import { isOn, JobPage, jobTitle } from "./parts";
import { ReplayForm } from "./replayform";

const states: Record<Replay["state"], [tone: Tone | undefined, text: string]> = {
  queued: ["accent", "Waiting"], running: ["accent", "Running"], done: ["good", "Done"], failed: ["bad", "Failed"], canceled: [undefined, "Cancelled"],
};

const isActive = (r: Replay): boolean => r.state === "queued" || r.state === "running";

export default function Replays() {
  const params = useRoute().params;
  const account = params["account"]!;
  const id = params["id"]!;
  const url = jobPath(account, id, "replays");
  const [active, setActive] = useState(true);
  const replays = useQuery(url, async (signal) => {
    const list = await get<Replay[]>(url, { signal });
    setActive(list.some(isActive));
    return list;
  }, { enabled: may("logs:edit"), every: active ? 2_000 : 20_000 });
  const health = useQuery(`logpush health ${account} ${id}`, (signal) => get<JobHealth>(jobPath(account, id, "health"), { signal }));
  const [canceling, setCanceling] = useState<Replay>();
  const h = health.data;
  const name = h ? jobTitle(h) : `Job ${id}`;
  return (
    <JobPage account={account} id={id} name={name} title={`Replays of ${name}`} letters={h?.dead_letters}>
      <div class="stack">
        <Problem error={health.error} what="The job could not be read." retry={health.reload} />
        {!may("logs:edit") && <Note tone="warn">Sign in with a token that has the scope <code>logs:edit</code> to see and start replays.</Note>}
        {h && may("logs:edit") && <ReplayForm url={url} destination={h.destination} on={isOn(h.state)} onStarted={replays.reload} />}
        <Problem error={replays.error} what="The replays could not be read." older={replays.data !== undefined} retry={replays.reload} />
        {!replays.data && replays.loading && <Loading what="replays" />}
        {replays.data?.length === 0 && <Empty title="No replays yet"><p>A replay sends the events of a range of time again, beside live delivery: after a job was paused, or when the destination lost something.</p></Empty>}
        {replays.data?.map((r) => <ReplayView key={r.id} replay={r} onCancel={() => setCanceling(r)} />)}
      </div>
      {canceling && <Cancel url={url} replay={canceling} onClose={() => setCanceling(undefined)} onDone={() => { setCanceling(undefined); replays.reload(); }} />}
    </JobPage>
  );
}

function ReplayView(props: { replay: Replay; onCancel: () => void }) {
  const { replay: r } = props;
  const [tone, text] = states[r.state];
  return (
    <section class="panel" aria-labelledby={`replay-${r.id}`}>
      <div class="row spread">
        <h2 id={`replay-${r.id}`} aria-live="polite" aria-atomic="true">Replay {r.id} <Badge tone={tone}>{text}</Badge></h2>
        {isActive(r) && <Button compact onClick={props.onCancel} aria-label={`Cancel replay ${r.id}`}>Cancel</Button>}
      </div>
      <div class="stack">
        <p>Events from <Time at={r.from} absolute /> {r.to ? <>until <Time at={r.to} absolute /></> : "to where live delivery began"}, asked for <Time at={r.created_on} />.</p>
        {isActive(r) && <Progress replay={r} />}
        {r.error && <Note tone={r.state === "failed" ? "bad" : "warn"} live><p>{r.state === "failed" ? "" : "It waits: "}{r.error}</p></Note>}
        <Numbers replay={r} />
        {r.losses.length > 0 && <Losses replay={r} />}
      </div>
    </section>
  );
}

function Progress({ replay: r }: { replay: Replay }) {
  const known = r.offsets_total > 0;
  const percent = known ? Math.floor((100 * r.offsets_done) / r.offsets_total) : undefined;
  return (
    <div class="stack logpush-progress">
      <progress max={known ? r.offsets_total : undefined} value={known ? r.offsets_done : undefined} aria-label={`Progress of replay ${r.id}`} />
      <p class="small">
        {percent === undefined ? "It has not begun: a job has one replay at a time, and a process two." : `${percent} % of ${formatCount(r.offsets_total)} places are dealt with`}
        {r.estimated_end && <>, done <Time at={r.estimated_end} /> if it goes on like this</>}
      </p>
    </div>
  );
}

function Numbers({ replay: r }: { replay: Replay }) {
  return (
    <dl class="facts">
      <div><dt>Events of the time</dt><dd>{formatCount(r.records_read)}</dd></div>
      <div><dt>Records sent</dt><dd>{formatCount(r.records_sent)}</dd></div>
      <div><dt>Size</dt><dd>{formatBytes(r.bytes_sent)}</dd></div>
      <div><dt>Lost</dt><dd>{formatCount(r.records_lost)}</dd></div>
      {r.kept_from && <div><dt>May be missing: what is older than</dt><dd><Time at={r.kept_from} /></dd></div>}
      {r.records_unmarked > 0 && <div><dt>Left out, because nobody knows whether they may be sent</dt><dd>{formatCount(r.records_unmarked)}</dd></div>}
      <div><dt>Newest event sent</dt><dd><Time at={r.position ?? undefined} /></dd></div>
      {r.ended_on && <div><dt>Ended</dt><dd><Time at={r.ended_on} /></dd></div>}
    </dl>
  );
}

function Losses({ replay: r }: { replay: Replay }) {
  return (
    <details>
      <summary>Where records are lost</summary>
      <ul class="logpush-details">
        {r.losses.map((l) => <li key={`${l.partition} ${l.begin}`}>{formatCount(l.missing)} of the offsets {l.begin} to {l.end - 1} of partition {l.partition}: {l.reason}. They may have been other accounts’ events.</li>)}
      </ul>
    </details>
  );
}

function Cancel(props: { url: string; replay: Replay; onClose: () => void; onDone: () => void }) {
  const { id } = props.replay;
  const act = useAction(async () => {
    await call("POST", `${props.url}/${id}/cancel`);
    toast(`Replay ${id} is cancelled.`);
    props.onDone();
  });
  return (
    <Confirm title={`Cancel replay ${id}?`} action={`Cancel replay ${id}`} danger busy={act.busy} error={act.error} onConfirm={() => void act.run()} onClose={props.onClose}>
      <p>{formatCount(props.replay.records_sent)} records were sent so far, and stay sent. The rest is not sent. A cancelled replay does not go on; a new one begins anew.</p>
    </Confirm>
  );
}
