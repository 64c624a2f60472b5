// The history of a script: who deployed what, when and why, and the way back to any of it.
import { useState } from "preact/hooks";
import { useRoute } from "preact-iso";
import "../../styles/workers.css";
import { sameSplit, splitText } from "../../lib/split";
import { scriptPage } from "../../lib/url";
import { messageOf } from "../../lib/versions";
import { may } from "../../session";
import { Badge, Button, Empty, LinkButton, Loading, Problem, Time } from "../../ui/basics";
import { ScriptPage } from "../../ui/page";
import { Table, type Column } from "../../ui/table";
import { isMissing, useRecentRate, useScript, type ScriptState } from "./data";
import { DeployDialog, type Ask } from "./deploydialog";
import { author, cause, entries, sourceName, type Entry } from "./history";
import { Gone, SplitBar, SplitWords } from "./parts";

const listedMax = 100; // as many as the API lists

export default function DeploymentsPage() {
  const { account, script } = useRoute().params as { account: string; script: string };
  const answer = useScript(account, script);
  const gone = isMissing(answer.error);
  return (
    <ScriptPage account={account} script={script} title="Deployments">
      <div class="stack">
        <Problem error={answer.error} what="The deployments could not be read." older={answer.data !== undefined && !gone} retry={answer.reload} />
        {gone ? <Gone account={account} script={script} /> : !answer.data ? answer.loading && <Loading what="deployments" />
          : answer.data.deployments.length === 0
            ? <Empty title="Nothing was deployed yet"><p><LinkButton look="primary" href={scriptPage(account, script)}>Promote a version</LinkButton></p></Empty>
            : <History account={account} script={script} state={answer.data} reload={answer.reload} />}
      </div>
    </ScriptPage>
  );
}

interface Props {
  account: string;
  script: string;
  state: ScriptState;
  reload: () => void;
}

function History(props: Props) {
  const { account, script, state } = props;
  const [ask, setAsk] = useState<Ask | undefined>();
  const recent = useRecentRate(account, script, state.deployments);
  const again = (e: Entry): Ask => ({
    title: "Deploy this split again", action: "Deploy it again", splits: e.deployment.versions,
    message: `Again as on ${e.deployment.created_on.slice(0, 16).replace("T", " ")} UTC`,
  });
  return (
    <>
      <Table caption="Deployments, newest first" rows={entries(state.deployments, state.decisions)} rowKey={(e) => e.deployment.id} columns={columns(props, (e) => setAsk(again(e)))} />
      {state.deployments.length >= listedMax && <p class="small quiet">These are the newest {listedMax}. Older ones can be read by their id, with the API.</p>}
      {ask && <DeployDialog account={account} script={script} state={state} ask={ask} recent={recent} onDone={props.reload} onClose={() => setAsk(undefined)} />}
    </>
  );
}

function columns(props: Props, again: (e: Entry) => void): Column<Entry>[] {
  const { account, script, state } = props;
  const serving = state.deployments[0]!.versions;
  const all: Column<Entry>[] = [
    { name: "When", heading: true, cell: (e) => <WhenCell entry={e} /> },
    { name: "Split", cell: (e) => <SplitCell {...props} entry={e} /> },
    { name: "Who", cell: (e) => <>{author(e.deployment)}{e.deployment.author_email !== "" && <><br /><span class="small quiet">through {sourceName(e.deployment.source)}</span></>}</> },
    { name: "Why", cell: (e) => <WhyCell account={account} script={script} told={state.names.told} entry={e} /> },
  ];
  if (may("scripts:edit")) {
    all.push({ name: "Deploy again", quiet: true, cell: (e) => !sameSplit(serving, e.deployment.versions)
      && <Button compact onClick={() => again(e)} aria-label={`Deploy again: ${splitText(e.deployment.versions, state.names.name)}, of ${e.deployment.created_on}`}>Deploy again</Button> });
  }
  return all;
}

function WhenCell({ entry: { deployment, serving } }: { entry: Entry }) {
  return (
    <span id={deployment.id} class="when-cell">
      <Time at={deployment.created_on} absolute />
      <span class="small quiet"><Time at={deployment.created_on} /></span>
      {serving && <Badge tone="good">Serving now</Badge>}
    </span>
  );
}

function SplitCell({ account, script, state, entry: { deployment, before } }: Props & { entry: Entry }) {
  const { names } = state;
  return (
    <div class="serving-cell">
      <SplitBar splits={deployment.versions} name={names.name} series={names.series} hidden />
      <SplitWords account={account} script={script} splits={deployment.versions} names={names} />
      {before && <span class="small quiet">{sameSplit(before.versions, deployment.versions) ? "as before" : `before: ${splitText(before.versions, names.name)}`}</span>}
    </div>
  );
}

function WhyCell(props: { account: string; script: string; told: (text: string) => string; entry: Entry }) {
  const { deployment, decision } = props.entry;
  const said = messageOf(deployment, props.told);
  return (
    <div class="why-cell">
      {said && <span>{said}</span>}
      {decision && <a href={`${scriptPage(props.account, props.script, "rollback")}?decision=${decision.id}`}>The decision and its evidence</a>}
      <span class="small quiet">{cause(deployment)}</span>
    </div>
  );
}
