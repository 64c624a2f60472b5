// All jobs of an account, how they do, and who is told of failures.
import "../../styles/logpush.css";
import { useRoute } from "preact-iso";
import { get } from "../../api/client";
import { formatCount } from "../../lib/format";
import { useQuery } from "../../lib/query";
import { may } from "../../session";
import { Badge, Empty, LinkButton, Loading, Problem, Time } from "../../ui/basics";
import { Page } from "../../ui/page";
import { Table, type Column } from "../../ui/table";
import { AlertsPanel } from "./alerts";
import { logpushPath, type JobState } from "./api";
import { jobTitle, lagHint, lagText, lastError, StateBadge } from "./parts";
import { Switch } from "./switch";

const refresh = 10_000; // as often as deliveries report

export default function Jobs() {
  const account = useRoute().params["account"]!;
  const jobs = useQuery(`logpush ${account}`, (signal) => get<JobState[]>(logpushPath(account, "health"), { signal }), { every: refresh });
  const edit = may("logs:edit");
  const create = edit && <LinkButton look="primary" href={`/${account}/logpush/new`}>Create a job</LinkButton>;
  return (
    <Page title="Logpush" actions={jobs.data?.length ? create : undefined}>
      <div class="stack">
        <Problem error={jobs.error} what="The jobs could not be read." older={jobs.data !== undefined} retry={jobs.reload} />
        {!jobs.data && jobs.loading && <Loading what="jobs" />}
        {jobs.data?.length === 0 && (
          <Empty title="No jobs yet">
            <p>A Logpush job sends the trace events of your Workers to a bucket, a log service, a topic or a receiver of yours, at least once.</p>
            {create || <p>Sign in with a token that has the scope <code>logs:edit</code> to create one.</p>}
          </Empty>
        )}
        {jobs.data && jobs.data.length > 0 && <JobTable account={account} jobs={jobs.data} onChange={jobs.reload} />}
        {edit && <AlertsPanel account={account} />}
      </div>
    </Page>
  );
}

function JobTable(props: { account: string; jobs: JobState[]; onChange: () => void }) {
  const base = `/${props.account}/logpush`;
  const columns: Column<JobState>[] = [
    { name: "Job", heading: true, cell: (j) => <><a href={`${base}/${j.job_id}`}>{jobTitle(j)}</a><div class="small quiet logpush-light">{j.dataset}</div></> },
    { name: "State and last error", cell: (j) => <><StateBadge state={j.state} /><LastError job={j} /></> },
    { name: "Lag", number: true, cell: (j) => <span class="logpush-lag" title={lagHint}>{lagText(j.lag_seconds)}</span> },
    { name: "Newest delivered", cell: (j) => <Time at={j.last_complete ?? undefined} /> },
    { name: "Dead letters", number: true, cell: (j) => j.dead_letters > 0 ? <a href={`${base}/${j.job_id}/dead-letters`} aria-label={`${j.dead_letters} dead letters of ${jobTitle(j)}`}><Badge tone="warn">{formatCount(j.dead_letters)}</Badge></a> : "0" },
    { name: "Destination", cell: (j) => <code class="logpush-place">{j.destination}</code> },
    { name: "Actions", quiet: true, cell: (j) => <Switch account={props.account} job={j} compact onDone={props.onChange} /> },
  ];
  return <Table caption="Logpush jobs" columns={columns} rows={props.jobs} rowKey={(j) => String(j.job_id)} />;
}

function LastError({ job }: { job: JobState }) {
  const error = lastError(job);
  return error ? <div class="logpush-message">{error.message} <span class="quiet">(<Time at={error.at} />)</span></div> : null;
}
