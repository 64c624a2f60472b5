// What the tests say now of each version on trial, and where its ramp stands.
import { useRef } from "preact/hooks";
import { capital } from "../../lib/format";
import { marksOf } from "../../lib/marks";
import { useQuery, type Answer } from "../../lib/query";
import { scriptPage } from "../../lib/url";
import { tagger } from "../../lib/versions";
import { Badge, Empty, Loading, Note, Problem, Time, VersionName } from "../../ui/basics";
import { isSettled } from "../workers/data";
import { readDecisions, readDeployments, readRamp, type Decision, type Deployment, type LiveEvidence } from "./api";
import { EvidenceTable } from "./evidencetable";
import { outcome } from "./outcome";
import type { Editing } from "./editing";
import { counts, lag, stateOf, type Trial } from "./evidence";
import { EvidenceChart, nameWith } from "./evidencechart";
import type { Settings } from "./limits";
import { RampPanel } from "./ramppanel";

interface Props {
  account: string;
  script: string;
  of: Editing;
  tags: Map<string, string> | undefined;
  evidence: Answer<LiveEvidence>;
}

export function Live({ account, script, of, tags, evidence }: Props) {
  const followed = of.held?.policy ?? undefined;
  const deployments = useQuery(`deployments ${account} ${script}`, (signal) => readDeployments(account, script, signal), { every: 10_000 });
  // A ramp begins with a deployment: without one there is nothing to ask for again before the next.
  const state = `${deployments.data?.[0]?.id} ${of.held?.etag}`;
  const without = useRef<string | undefined>(undefined);
  const ramp = useQuery(`ramp ${account} ${script}`, async (signal) => {
    if (without.current === state) return null;
    const found = await readRamp(account, script, signal);
    const newest = deployments.data?.[0];
    without.current = found || !newest || !isSettled(newest) ? undefined : state;
    return found;
  }, { every: 2000, enabled: followed !== undefined });
  const decisions = useQuery(`decisions ${account} ${script} 1`, (signal) => readDecisions(account, script, 1, signal), { every: 5000 });
  const base = scriptPage(account, script);
  if (!followed) {
    return (
      <Empty title={`Nothing watches ${script}`}>
        <p>It has no rollback policy, and the account no default one.</p>
        <p><a class="button primary" href={`${base}/rollback?view=policy`}>Write a policy</a></p>
      </Empty>
    );
  }
  return (
    <div class="stack">
      <Problem error={evidence.error} what="The evidence could not be read." older={evidence.data !== undefined} retry={evidence.reload} />
      {evidence.error === undefined && <Problem error={decisions.error} what="The decisions could not be read." older={decisions.data !== undefined} retry={decisions.reload} />}
      {!evidence.data && evidence.loading && <Loading what="the evidence" />}
      {evidence.data && decisions.data?.items[0] && <Newest decision={decisions.data.items[0]} tags={tags} base={base} />}
      {evidence.data && <Trials live={evidence.data} policy={followed} deployments={deployments.data ?? []} decisions={decisions.data?.items ?? []} tags={tags} base={base} />}
      <Problem error={ramp.error} what="The ramp could not be read." older={ramp.data != null} retry={ramp.reload} />
      {ramp.data && <RampPanel account={account} script={script} ramp={ramp.data} deployments={deployments.data ?? []} tags={tags} reload={() => { ramp.reload(); evidence.reload(); deployments.reload(); }} />}
    </div>
  );
}

/** What was last decided: who comes here at night asks that first. */
function Newest(props: Pick<TrialsProps, "tags" | "base"> & { decision: Decision }) {
  const { decision } = props;
  const [word, tone] = outcome(decision);
  return (
    <p class="row newest">
      <Badge tone={tone}>{word}</Badge>
      <span><Time at={decision.at} />: <span role="status"><a href={`${props.base}/rollback?decision=${decision.id}`}>{tagger(props.tags)(decision.sentence)}</a></span></span>
    </p>
  );
}

interface TrialsProps {
  live: LiveEvidence;
  policy: Settings;
  deployments: Deployment[];
  decisions: Decision[];
  tags: Map<string, string> | undefined;
  base: string;
}

function Trials(props: TrialsProps) {
  const { live, base } = props;
  const blind = "Nothing that serves can be judged";
  if (live.trials.length === 0) {
    return (
      <Empty title={live.reason === undefined ? "No version is on trial" : blind}>
        <p>{live.reason === undefined
          ? "A trial begins when a version gets a share of the requests beside the one that had all of them. After a rollback nothing is on trial until the next deployment."
          : `${capital(live.reason)}.`}</p>
        <p><a class="button" href={`${base}/deployments`}>Deployments</a></p>
      </Empty>
    );
  }
  return <>{live.reason !== undefined && <Note tone="warn"><strong>{blind}.</strong> {capital(live.reason)}.</Note>}{live.trials.map((t) => <TrialPanel key={t.version_id} {...props} trial={t} />)}</>;
}

function TrialPanel(props: TrialsProps & { trial: Trial }) {
  const { trial, live, policy, tags, base } = props;
  const nameOf = nameWith(tags);
  const newest = props.deployments[0];
  const alone = newest !== undefined && !newest.versions.some((v) => v.version_id === trial.baseline_version_id && v.percentage > 0);
  const state = stateOf(trial, live.enabled, policy, alone);
  const behind = lag(trial, live.at);
  const id = `trial-${trial.version_id}`;
  const compare = `${base}/compare?baseline=${trial.baseline_version_id}&candidate=${trial.version_id}`;
  return (
    <section class="panel" aria-labelledby={id}>
      <div class="row spread">
        <h2 id={id} class="row"><VersionName id={trial.version_id} tag={tags?.get(trial.version_id)} /> <span class="quiet">on trial against</span> <VersionName id={trial.baseline_version_id} tag={tags?.get(trial.baseline_version_id)} /></h2>
        <span role="status"><Badge tone={state.tone}>{state.word}</Badge></span>
      </div>
      <div class="stack">
        <p class="lead">{state.next}</p>
        <p>Since <Time at={trial.since} /> {nameOf(trial.version_id)}: {counts(trial.numbers)}.</p>
        <EvidenceChart label={`Evidence against ${nameOf(trial.version_id)}, by limit`} evidence={trial.evidence} marks={marksOf(props.deployments, props.decisions, nameOf, tagger(props.tags))} />
        <EvidenceTable evidence={trial.evidence} blocks={policy.evidence === "blocks"} />
        {behind.late ? <Note tone="warn">{behind.text}</Note> : <p class="quiet small">{behind.text}</p>}
        <p><a href={compare}>Compare both versions</a></p>
      </div>
    </section>
  );
}
