// What serves now: the versions of the active deployment, what they do, and the two ways on.
import { useState } from "preact/hooks";
import { serverNow } from "../../lib/clock";
import { formatMillis, formatRate } from "../../lib/format";
import { percentText, shareOf, splitText } from "../../lib/split";
import { scriptPage } from "../../lib/url";
import { messageOf } from "../../lib/versions";
import { may } from "../../session";
import { Badge, Button, Note, Time, VersionName } from "../../ui/basics";
import { Table, type Column } from "../../ui/table";
import { type Deployment, type ScriptState } from "./data";
import { DeployDialog, type Ask } from "./deploydialog";
import { author, candidate, cause, entries, former, takenBack } from "./history";
import { DecisionBadge, RampBadge, SplitBar } from "./parts";
import type { RecentRate, VersionRate } from "./rates";
import { perSecondText } from "./rows";
import type { VersionNames } from "./versions";

interface Props {
  account: string;
  script: string;
  state: ScriptState;
  rates: VersionRate[];
  /** The time that the rates are of. */
  when: string;
  recent: RecentRate | undefined;
  reload: () => void;
}

export function ServingPanel(props: Props) {
  const { account, script, state } = props;
  const current = state.deployments[0]!;
  const [entry] = entries(state.deployments, state.decisions);
  const decision = entry?.decision ?? recent(state);
  const said = messageOf(current, state.names.told);
  return (
    <section class="panel stack" aria-labelledby="serving">
      <div class="row spread">
        <div class="row">
          <h2 id="serving">Active deployment</h2>
          <RampBadge account={account} script={script} ramp={state.ramp} serving={current.id} />
          <DecisionBadge account={account} script={script} decision={decision} told={state.names.told} when={decision && <Time at={decision.at} />} />
        </div>
        {may("scripts:edit") && <Ways {...props} />}
      </div>
      <SplitBar splits={current.versions} name={state.names.name} series={state.names.series} />
      <p>
        {splitText(current.versions, state.names.name)}, {cause(current) || "deployed"} <Time at={current.created_on} /> by {author(current)}
        {said && <>: “{said}”</>}
      </p>
      <FailedStarts deployment={current} names={state.names} />
      <Table caption="Versions and what they do" rows={props.rates} rowKey={(r) => r.id} columns={columns(props)} />
      <p class="small quiet">Requests a second, failures and wall time are {props.when}.</p>
    </section>
  );
}

const day = 24 * 3600 * 1000;

/** The newest decision of the last day that did something. */
function recent(state: ScriptState) {
  return state.decisions.find((d) => d.action !== undefined && serverNow().getTime() - Date.parse(d.at) < day);
}

function columns({ account, script, state }: Props): Column<VersionRate>[] {
  const message = (id: string) => state.versions.find((v) => v.id === id);
  return [
    { name: "Version", heading: true, cell: (r) => <VersionName id={r.id} tag={state.names.tag(r.id)} series={state.names.series(r.id)} href={scriptPage(account, script, "versions", r.id)} /> },
    { name: "Share", number: true, cell: (r) => (r.share === undefined ? <Badge>Not deployed</Badge> : percentText(r.share)) },
    { name: "Requests", number: true, cell: (r) => perSecondText(r.perSecond) },
    { name: "Failures", number: true, cell: (r) => <span class={r.failures ? "failing" : undefined}>{formatRate(r.failureRate)}</span> },
    { name: "p99 wall time", number: true, cell: (r) => formatMillis(r.p99) },
    { name: "Uploaded", cell: (r) => <Time at={message(r.id)?.metadata.created_on} /> },
    { name: "Message", cell: (r) => message(r.id)?.annotations["workers/message"] ?? "" },
  ];
}

/** Versions that routers cannot start get no traffic, whatever their share says. */
function FailedStarts(props: { deployment: Deployment; names: VersionNames }) {
  const failed = (props.deployment.version_status ?? []).filter((s) => s.phase === "failed");
  if (failed.length === 0) return null;
  return (
    <Note tone="bad" live>
      {failed.map((s) => <p key={s.version_id + s.router_id}>{props.names.name(s.version_id)} cannot start on router {s.router_id}, and its share goes to the other version there: {s.error ? props.names.told(s.error) : "no reason was given"}</p>)}
    </Note>
  );
}

/** Finish the version that is on its way, or go back to the former one. */
function Ways({ account, script, state, recent, reload }: Props) {
  const [ask, setAsk] = useState<Ask | undefined>();
  const current = state.deployments[0]!;
  const back = former(state.deployments);
  const wayBack = back !== undefined && !takenBack(state.deployments, state.names.number).has(back) ? back : undefined;
  const onward = candidate(current.versions, back, state.names.number);
  const { name } = state.names;
  const finish = (id: string): Ask => ({ title: `Give ${name(id)} all traffic`, action: "Finish at 100 %", splits: [{ version_id: id, percentage: 100 }], message: "" });
  const roll = (id: string): Ask => ({ title: `Roll back to ${name(id)}`, action: "Roll back", splits: [{ version_id: id, percentage: 100 }], message: "Rollback", danger: true });
  return (
    <div class="row">
      {onward !== undefined && (shareOf(current.versions, onward) ?? 0) > 0 && <Button onClick={() => setAsk(finish(onward))}>Finish {name(onward)} at 100 %</Button>}
      {wayBack !== undefined && <Button onClick={() => setAsk(roll(wayBack))}>Roll back to {name(wayBack)}</Button>}
      {ask && <DeployDialog account={account} script={script} state={state} ask={ask} recent={recent} onDone={reload} onClose={() => setAsk(undefined)} />}
    </div>
  );
}
