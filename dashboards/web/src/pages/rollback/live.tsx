// What the tests say now of each version on trial, and where its ramp stands.
import { useQuery } from "../../lib/query";
import { Badge, Empty, Loading, Problem, Time, VersionName } from "../../ui/basics";
import { Table } from "../../ui/table";
import { readDeployments, readEvidence, readRamp, type Deployment, type LiveEvidence } from "./api";
import type { Editing } from "./editing";
import { counts, lag, limitWords, seen, stateOf, strength, type Evidence, type Trial } from "./evidence";
import { EvidenceChart, marksOf, nameWith } from "./evidencechart";
import { limitName, perOne, type Settings } from "./limits";
import { RampPanel } from "./ramppanel";

interface Props {
  account: string;
  script: string;
  of: Editing;
  tags: Map<string, string> | undefined;
}

export function Live({ account, script, of, tags }: Props) {
  const followed = of.held?.policy ?? undefined;
  // A look of the controller comes twice a second; a person reads more slowly.
  const evidence = useQuery(`evidence ${account} ${script}`, (signal) => readEvidence(account, script, signal), { every: 2000, enabled: followed !== undefined });
  const ramp = useQuery(`ramp ${account} ${script}`, (signal) => readRamp(account, script, signal), { every: 2000 });
  const deployments = useQuery(`deployments ${account} ${script}`, (signal) => readDeployments(account, script, signal), { every: 10_000 });
  const base = `/${account}/workers/${encodeURIComponent(script)}`;
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
      <Problem error={evidence.error} what="The evidence cannot be shown." retry={evidence.reload} />
      {!evidence.data && evidence.loading && <Loading what="the evidence" />}
      {evidence.data && <Trials live={evidence.data} policy={followed} deployments={deployments.data ?? []} tags={tags} base={base} />}
      <Problem error={ramp.error} what="The ramp cannot be shown." retry={ramp.reload} />
      {ramp.data && <RampPanel account={account} script={script} ramp={ramp.data} deployments={deployments.data ?? []} tags={tags} reload={() => { ramp.reload(); evidence.reload(); deployments.reload(); }} />}
    </div>
  );
}

function Trials(props: { live: LiveEvidence; policy: Settings; deployments: Deployment[]; tags: Map<string, string> | undefined; base: string }) {
  const { live, base } = props;
  if (live.trials.length === 0) {
    return (
      <Empty title="No version is on trial">
        <p>A trial begins when a version gets a share of the requests beside the one that had all of them. After a rollback nothing is on trial until the next deployment.</p>
        <p><a class="button" href={`${base}/deployments`}>Deployments</a></p>
      </Empty>
    );
  }
  return <>{live.trials.map((t) => <TrialPanel key={t.version_id} {...props} trial={t} />)}</>;
}

function TrialPanel(props: { trial: Trial; live: LiveEvidence; policy: Settings; deployments: Deployment[]; tags: Map<string, string> | undefined; base: string }) {
  const { trial, live, policy, tags, base } = props;
  const nameOf = nameWith(tags);
  const state = stateOf(trial, live.enabled, policy);
  const id = `trial-${trial.version_id}`;
  const compare = `${base}/compare?version=${trial.version_id}&baseline=${trial.baseline_version_id}`;
  return (
    <section class="panel" aria-labelledby={id}>
      <div class="row spread">
        <h2 id={id} class="row"><VersionName id={trial.version_id} tag={tags?.get(trial.version_id)} /> <span class="quiet">on trial against</span> <VersionName id={trial.baseline_version_id} tag={tags?.get(trial.baseline_version_id)} /></h2>
        <Badge tone={state.tone}>{state.word}</Badge>
      </div>
      <div class="stack">
        <p class="lead" role="status">{state.next}</p>
        <p>Since <Time at={trial.since} /> {nameOf(trial.version_id)}: {counts(trial.numbers)}.</p>
        <EvidenceChart label={`Evidence against ${nameOf(trial.version_id)}, by limit`} evidence={trial.evidence} marks={marksOf(props.deployments, nameOf)} />
        <EvidenceTable evidence={trial.evidence} blocks={policy.evidence === "blocks"} />
        <p class="quiet small">{lag(trial, live.at)} <a href={compare}>Compare both versions</a></p>
      </div>
    </section>
  );
}

/** What each test says. */
export function EvidenceTable(props: { evidence: Evidence[]; blocks: boolean }) {
  return (
    <Table caption="What the test of each limit says" rows={props.evidence} rowKey={(e) => e.metric} columns={[
      { name: "Limit", heading: true, cell: (e) => <>{limitName(e.metric)} <span class="quiet">{limitWords(e)}</span></> },
      { name: "Evidence", number: true, cell: (e) => <span class="nowrap">{strength(e)}</span> },
      { name: "Seen", cell: (e) => seen(e, props.blocks) },
      { name: "Chance of so much, ever, if kept", number: true, cell: (e) => (e.p_value >= 1 ? "1" : `1 in ${perOne(e.p_value)}`) },
    ]} />
  );
}
