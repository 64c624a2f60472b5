// Tries a policy on past traffic: what it would have done, and when.
import { useEffect, useRef, useState } from "preact/hooks";
import { serverNow } from "../../lib/clock";
import { marksOf } from "../../lib/marks";
import { useQuery } from "../../lib/query";
import { formatDuration } from "../../lib/time";
import { useSearch } from "../../lib/url";
import { tagger } from "../../lib/versions";
import { Badge, Button, Empty, Loading, Note, Problem, Segments, SelectField, Time, VersionName } from "../../ui/basics";
import { ApiError } from "../../api/client";
import { readDeployments, readRevisions, type Deployment } from "./api";
import { avoidedInAll, done, runBacktest, secondsBetween, tooNew, verdict, type Backtest, type BacktestTrial, type Progress } from "./backtest";
import { pointers, type Editing } from "./editing";
import { counts } from "./evidence";
import { EvidenceChart, nameWith } from "./evidencechart";
import { EvidenceTable } from "./evidencetable";
import type { Settings } from "./limits";
import { falseAlarms } from "./sentences";

interface Props {
  account: string;
  script: string;
  of: Editing;
  tags: Map<string, string> | undefined;
}

const spans = [["3600", "1 h"], ["21600", "6 h"], ["86400", "1 d"], ["604800", "7 d"], ["all", "All that is kept"]] as const;

interface Run {
  running: AbortController | undefined;
  progress: Progress | undefined;
  result: Backtest | undefined;
  error: unknown;
  cancelled: boolean;
}

const idle: Run = { running: undefined, progress: undefined, result: undefined, error: undefined, cancelled: false };

function useRun(account: string, script: string) {
  const [run, setRun] = useState<Run>(idle);
  const current = useRef<AbortController | undefined>(undefined);
  // Who leaves the page waits no more, and the server need not either.
  useEffect(() => () => current.current?.abort(), [account, script]);
  const start = async (policy: Settings, since: Date | undefined): Promise<void> => {
    const abort = new AbortController();
    current.current = abort;
    setRun({ ...idle, running: abort });
    try {
      const result = await runBacktest(account, script, policy, since, abort.signal, (progress) => setRun((r) => ({ ...r, progress })));
      setRun({ ...idle, result });
    } catch (error) {
      setRun(abort.signal.aborted ? { ...idle, cancelled: true } : { ...idle, error });
    }
  };
  return { run, start, cancel: () => current.current?.abort() };
}

export function BacktestView({ account, script, of, tags }: Props) {
  const search = useSearch();
  const revisions = useQuery(`revisions ${account} ${script} ${of.held?.etag}`, (signal) => readRevisions(of.owner, signal));
  const { run, start, cancel } = useRun(account, script);
  const span = spans.find(([v]) => v === search.get("back"))?.[0] ?? "86400";
  const which = search.get("policy") ?? (of.changed || !of.held?.policy ? "edited" : "held");
  const chosen = which === "edited" ? of.policy : which === "held" ? of.held?.policy : revisions.data?.find((r) => String(r.revision) === which)?.policy;
  const options: [string, string][] = [["edited", of.changed ? "the one in the fields, which is not saved" : "the one in the fields"]];
  if (of.held?.policy) options.push(["held", `the one that holds, revision ${of.held.policy.revision}`]);
  for (const r of revisions.data ?? []) if (r.policy && r.revision !== of.held?.policy?.revision) options.push([String(r.revision), `revision ${r.revision}`]);
  return (
    <div class="stack">
      <section class="panel" aria-labelledby="backtest">
        <h2 id="backtest">Try a policy on past traffic</h2>
        <div class="stack">
          <p class="quiet">Replays the counted seconds of past deployments: when the policy would have acted, and how many failed requests that would have avoided. Nothing is changed. Traffic is as it was: ramps and hours are not played.</p>
          <div class="fields">
            <SelectField label="Policy" value={which} options={options} onChange={(v) => search.set({ policy: v }, "replace")} />
            <div class="field"><span class="label">How far back</span><div><Segments label="How far back" options={spans} value={span} onChange={(v) => search.set({ back: v }, "replace")} /></div></div>
          </div>
          <div class="row">
            <Button look="primary" busy={run.running !== undefined} disabled={!chosen} onClick={() => chosen && void start(chosen, span === "all" ? undefined : new Date(serverNow().getTime() - Number(span) * 1000))}>Run the backtest</Button>
            {run.running && <Button onClick={cancel}>Cancel</Button>}
            {run.running && <ProgressBar progress={run.progress} />}
          </div>
          {run.cancelled && <p role="status">Cancelled: nothing was changed.</p>}
          <Failure error={run.error} />
        </div>
      </section>
      {run.result && <Result account={account} script={script} result={run.result} tags={tags} />}
    </div>
  );
}

function ProgressBar(props: { progress: Progress | undefined }) {
  const share = props.progress ? done(props.progress) : 0;
  return (
    <span class="row" role="status">
      <progress max={1} value={share} aria-label="Replayed" />
      <span class="small">{Math.floor(share * 100)} %{props.progress && <> replayed, until <Time at={props.progress.at} named /></>}</span>
    </span>
  );
}

function Failure(props: { error: unknown }) {
  if (!props.error) return null;
  const at = Object.keys(pointers(props.error, "/policy"));
  return (
    <>
      <Problem error={props.error} what="The backtest was not run to its end." />
      {at.length > 0 && <p class="small">Mend the policy’s field first: <code>{at.join(", ").replaceAll("/", " ").trim()}</code>.</p>}
      {props.error instanceof ApiError && props.error.status === 503 && <p class="small">An account has one backtest at a time, and two minutes for it: ask about less time, or wait for the other one.</p>}
    </>
  );
}

const leftOut = "The newest two minutes are always left out: events of theirs may still come.";

function Result(props: { account: string; script: string; result: Backtest; tags: Map<string, string> | undefined }) {
  const { result } = props;
  const deployments = useQuery(`deployments ${props.account} ${props.script}`, (signal) => readDeployments(props.account, props.script, signal));
  const acted = result.trials.filter((t) => t.failed_at !== undefined).length;
  const length = (Date.parse(result.until) - Date.parse(result.since)) / 1000;
  const until = <Time at={result.until} named />;
  if (result.trials.length === 0) {
    if (deployments.data === undefined && deployments.loading) return <Loading what="deployments" />;
    const late = tooNew(result, deployments.data?.[0]);
    return late === undefined
      ? <Empty title="No version was on trial then"><p>Between <Time at={result.since} absolute /> and {until} no version had a share beside the one that had all traffic before. Go further back. {leftOut}</p></Empty>
      : <Empty title="The newest deployment cannot be replayed yet"><p>It was made at <Time at={late} named />, and the replay ended at {until}. {leftOut} Run the backtest again when the deployment is older than that.</p></Empty>;
  }
  return (
    <section class="stack" aria-label="Result of the backtest">
      <Note tone={result.false_alarms > 0 ? "warn" : "accent"} live>
        <p><strong>In {formatDuration(length)} it would have acted on {acted} of {result.trials.length} {result.trials.length === 1 ? "trial" : "trials"}</strong>{avoidedInAll(result, acted)}. {result.false_alarms === 0 ? "No version that people kept was among them." : `${result.false_alarms} of them would have been ${result.false_alarms === 1 ? "a false alarm" : "false alarms"}: people kept the version for a day.`}</p>
        <p class="small">{falseAlarms(result.policy.confidence)} is what it promises. The replay ended at {until}. {leftOut}</p>
      </Note>
      {result.trials.toReversed().map((t) => <TrialResult key={`${t.version_id} ${t.since}`} trial={t} policy={result.policy} deployments={deployments.data ?? []} tags={props.tags} />)}
    </section>
  );
}

function TrialResult(props: { trial: BacktestTrial; policy: Settings; deployments: Deployment[]; tags: Map<string, string> | undefined }) {
  const { trial, tags } = props;
  const nameOf = nameWith(tags);
  const id = `result-${trial.version_id}-${trial.since}`;
  const marks = marksOf(props.deployments, [], nameOf, tagger(tags));
  if (trial.failed_at) marks.push({ at: Date.parse(trial.failed_at) / 1000, text: "would have acted here", tone: "bad" });
  const range: [number, number] = [Date.parse(trial.since) / 1000, Date.parse(trial.until) / 1000];
  const length = secondsBetween(trial.since, trial.until);
  return (
    <section class="panel" aria-labelledby={id}>
      <div class="row spread">
        <h2 id={id} class="row"><VersionName id={trial.version_id} tag={tags?.get(trial.version_id)} /> <span class="quiet">against</span> <VersionName id={trial.baseline_version_id} tag={tags?.get(trial.baseline_version_id)} /></h2>
        <span class="row">
          {trial.false_alarm && <Badge tone="warn">False alarm</Badge>}
          <Badge tone={trial.failed_at ? "bad" : "good"}>{trial.failed_at ? "Would have acted" : "Would have let it be"}</Badge>
        </span>
      </div>
      <div class="stack">
        <p class="small quiet"><Time at={trial.since} absolute /> to <Time at={trial.until} named />, {length < 1 ? "within 1 s" : formatDuration(length)}</p>
        {trial.failed_at && <p class="lead">{verdict(trial).join(" ")}</p>}
        <p>In the whole trial {nameOf(trial.version_id)}: {counts(trial.numbers)}.</p>
        <EvidenceChart label={`Evidence against ${nameOf(trial.version_id)} in the backtest`} evidence={trial.evidence ?? []} marks={marks} range={range} />
        {(trial.evidence ?? []).length > 0 && <EvidenceTable evidence={trial.evidence ?? []} blocks={props.policy.evidence === "blocks"} />}
      </div>
    </section>
  );
}
