// One script: what serves, how it does, how it is reached, and how its split is changed.
import { useRoute } from "preact-iso";
import "../../styles/workers.css";
import { useRange, type Range } from "../../lib/range";
import { thousandths } from "../../lib/split";
import { formatDuration } from "../../lib/time";
import { scriptPage } from "../../lib/url";
import { may } from "../../session";
import { Empty, LinkButton, Loading, Problem } from "../../ui/basics";
import { ScriptPage } from "../../ui/page";
import { isMissing, useMetrics, useRecentRate, useScript, type ScriptState } from "./data";
import { Gone } from "./parts";
import { PromotePanel } from "./promote";
import { versionRates } from "./rates";
import { ReachPanel } from "./reach";
import { RemovePanel } from "./remove";
import { RequestsPanel } from "./requests";
import { ServingPanel } from "./serving";

export default function OverviewPage() {
  const { account, script } = useRoute().params as { account: string; script: string };
  const answer = useScript(account, script);
  const gone = isMissing(answer.error);
  return (
    <ScriptPage account={account} script={script}>
      <div class="stack">
        <Problem error={answer.error} what={`What ${script} serves could not be read.`} older={answer.data !== undefined && !gone} retry={answer.reload} />
        {gone ? <Gone account={account} script={script} /> : answer.data ? <Overview account={account} script={script} state={answer.data} reload={answer.reload} /> : answer.loading && <Loading what={script} />}
      </div>
    </ScriptPage>
  );
}

function Overview(props: { account: string; script: string; state: ScriptState; reload: () => void }) {
  const { account, script, state, reload } = props;
  const range = useRange();
  const metrics = useMetrics(account, script, range);
  const current = state.deployments[0];
  const rates = versionRates((current?.versions ?? []).map((s) => ({ id: s.version_id, share: thousandths(s.percentage) })), metrics.data);
  const recent = useRecentRate(account, script, state.deployments);
  const edit = may("scripts:edit");
  return (
    <>
      {current ? <ServingPanel {...props} rates={rates} when={timeText(range.resolve())} recent={recent} /> : <NeverDeployed {...props} />}
      <Problem error={metrics.error} what="Rates cannot be read at the moment; the deployment is known all the same." older={metrics.data !== undefined} retry={metrics.reload} />
      {current && <RequestsPanel state={state} metrics={metrics.data} loading={metrics.loading} range={range} compare={scriptPage(account, script, "compare")} />}
      {edit && <PromotePanel account={account} script={script} state={state} recent={recent} reload={reload} />}
      <ReachPanel account={account} script={script} state={state} />
      {edit && <RemovePanel account={account} script={script} />}
    </>
  );
}

function timeText({ last }: Range): string {
  return last === undefined ? "of the time that the chart shows" : `of the last ${formatDuration(last)}`;
}

function NeverDeployed(props: { account: string; script: string; state: ScriptState }) {
  const has = props.state.versions.length > 0;
  return (
    <Empty title={has ? "Nothing is deployed yet" : "This script has no version yet"}>
      <p>{has ? "It has versions, but none of them gets traffic: requests are answered with an error. Promote one below." : "Requests to it are answered with an error until a version is uploaded and deployed."}</p>
      {!has && <p><LinkButton look="primary" href={scriptPage(props.account, props.script, "edit")}>Write its first version</LinkButton></p>}
    </Empty>
  );
}
