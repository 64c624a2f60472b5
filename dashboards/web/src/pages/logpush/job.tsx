// One job: how it does, why it fails and what to do about that, and its settings.
import "../../styles/logpush.css";
import { useState } from "preact/hooks";
import { useLocation, useRoute } from "preact-iso";
import { call, get } from "../../api/client";
import { formatCount } from "../../lib/format";
import { useAction, useMounted, useQuery } from "../../lib/query";
import { may } from "../../session";
import { Button, Confirm, LinkButton, Loading, Note, Problem, Time } from "../../ui/basics";
import { toast } from "../../ui/toast";
import { advise } from "./advice";
import { jobPath, type JobHealth } from "./api";
import { Failures, Uploads, Where } from "./health";
import { HistoryPanel } from "./history";
import { isOn, JobPage, jobTitle, lagHint, lagText, lastError, StateBadge } from "./parts";
import { Summary } from "./summary";
import { Switch } from "./switch";

const refresh = 10_000; // as often as deliveries report

export default function JobOverview() {
  const params = useRoute().params;
  const account = params["account"]!;
  const id = params["id"]!;
  const health = useQuery(`logpush health ${account} ${id}`, (signal) => get<JobHealth>(jobPath(account, id, "health"), { signal }), { every: refresh });
  const h = health.data;
  const name = h ? jobTitle(h) : `Job ${id}`;
  const actions = h && <><Switch account={account} job={h} onDone={health.reload} />{may("logs:edit") && <LinkButton href={`/${account}/logpush/${id}/edit`}>Edit</LinkButton>}<Delete account={account} job={h} /></>;
  return (
    <JobPage account={account} id={id} name={name} letters={h?.dead_letters} actions={actions}>
      <div class="stack">
        <Problem error={health.error} what="The job’s health could not be read." older={h !== undefined} retry={health.reload} />
        {!h && health.loading && <Loading what="the job" />}
        {h && (
          <>
            <Trouble account={account} job={h} />
            <Facts job={h} />
            <HistoryPanel account={account} id={id} />
            <Uploads job={h} />
            <Where job={h} />
            <Failures job={h} />
            {may("logs:edit") && <Summary account={account} id={id} destination={h.destination} />}
          </>
        )}
      </div>
    </JobPage>
  );
}

/** The last failure in its own words, and what to do. */
function Trouble({ account, job }: { account: string; job: JobHealth }) {
  const base = `/${account}/logpush/${job.job_id}`;
  const error = lastError(job);
  if (!error && job.dead_letters === 0) return null;
  const status = job.uploads.filter((u) => u.status !== 200).sort((a, b) => b.uploads - a.uploads)[0]?.status;
  const advice = error && (advise(error.message) ?? (job.state === "failing" ? advise("", status) : undefined));
  return (
    <>
      {error && (
        <Note tone={isOn(job.state) && job.state !== "failing" ? "warn" : "bad"} live>
          <p><strong>{error.message}</strong> <span class="small">(<Time at={error.at} />)</span></p>
          {job.failing_since && <p>No upload has succeeded since <Time at={job.failing_since} absolute />. Nothing is lost meanwhile: events wait in Kafka for as long as it keeps them.</p>}
          {advice && <p>{advice}</p>}
          {job.state === "disabled_failing" && <p>The job was switched off <Time at={job.disabled_on ?? undefined} />. Mend the destination, and resume the job: what happened meanwhile can be sent with that.</p>}
        </Note>
      )}
      {job.dead_letters > 0 && (
        <Note tone="warn"><p>{formatCount(job.dead_letters)} {job.dead_letters === 1 ? "dead letter waits" : "dead letters wait"}: records that the destination refused for good. <a href={`${base}/dead-letters`}>Look at them</a>, mend what is wrong, and send them again.</p></Note>
      )}
    </>
  );
}

function Facts({ job }: { job: JobHealth }) {
  const sent = job.uploads.filter((u) => u.status === 200);
  const records = sent.reduce((n, u) => n + u.records, 0);
  return (
    <section class="panel" aria-label="Now">
      <dl class="facts">
        <div><dt>State</dt><dd><StateBadge state={job.state} /></dd></div>
        <div><dt>Lag</dt><dd>{lagText(job.lag_seconds)}</dd></div>
        <div><dt>Events that wait</dt><dd title="Those of other accounts are among them">{formatCount(job.lag_events)}</dd></div>
        <div><dt>Newest delivered</dt><dd title="In the partition that is ahead; others may be further behind"><Time at={job.last_complete ?? undefined} /></dd></div>
        <div><dt>All delivered until</dt><dd title="Nothing that reached Kafka before this time waits, in any partition"><Time at={job.complete_until ?? undefined} /></dd></div>
        <div><dt>Records sent in 24 hours</dt><dd>{formatCount(records)}</dd></div>
        <div><dt>Uploads tried again in 24 hours</dt><dd>{formatCount(job.retries)}</dd></div>
        <div><dt>Dead letters</dt><dd>{formatCount(job.dead_letters)}</dd></div>
      </dl>
      <p class="small quiet logpush-details">{lagHint}</p>
    </section>
  );
}

function Delete(props: { account: string; job: JobHealth }) {
  const { route } = useLocation();
  const mounted = useMounted();
  const [asking, setAsking] = useState(false);
  const name = jobTitle(props.job);
  const { dead_letters: letters } = props.job;
  const remove = useAction(async () => {
    await call("DELETE", jobPath(props.account, String(props.job.job_id)));
    toast(`${name} is deleted.`);
    if (mounted()) route(`/${props.account}/logpush`);
  });
  if (!may("logs:edit")) return null;
  return (
    <>
      <Button onClick={() => setAsking(true)}>Delete</Button>
      {asking && (
        <Confirm title={`Delete ${name}?`} action={`Delete ${name}`} danger busy={remove.busy} error={remove.error} onConfirm={() => void remove.run()} onClose={() => setAsking(false)}>
          <p>{props.job.destination} gets nothing more. What was delivered stays there. The job’s history goes{letters > 0 && `, and so do ${formatCount(letters)} dead letters with their content`}. This cannot be undone.</p>
        </Confirm>
      )}
    </>
  );
}
