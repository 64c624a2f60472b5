// All scripts of an account: what serves, how much, and how well.
import { useRoute } from "preact-iso";
import "../../styles/workers.css";
import { get, path, type Schemas } from "../../api/client";
import { serverNow } from "../../lib/clock";
import { formatCount, formatRate } from "../../lib/format";
import { useQuery } from "../../lib/query";
import { rangeQuery, useRange, type RangeState } from "../../lib/range";
import { scriptPage, useSearch } from "../../lib/url";
import { may } from "../../session";
import { Badge, Copy, Empty, LinkButton, Loading, Problem, SelectField, TextField, Time } from "../../ui/basics";
import { Page } from "../../ui/page";
import { RangePicker } from "../../ui/range";
import { Sparkline } from "../../ui/spark";
import { Table, type Column } from "../../ui/table";
import { refresh } from "./data";
import { author } from "./history";
import { DecisionBadge, RampBadge, rampText, SplitBar, SplitWords } from "./parts";
import { orderOf, orders, perSecondText, rowsOf, shownRows, type Overview, type Row, type Serving } from "./rows";
import { versionNames } from "./versions";

const scriptsMax = 1000; // as many as the API tells rates of at once

function useScripts(account: string) {
  return useQuery(`scripts ${account}`, async (signal) => {
    const [scripts, serving] = await Promise.all([
      get<Schemas["Script"][]>(path("accounts", account, "workers", "scripts"), { signal }),
      get<Serving[]>(path("accounts", account, "workers", "serving"), { signal }),
    ]);
    return { scripts, serving };
  }, { every: 5000 });
}

function useOverview(account: string, range: RangeState) {
  return useQuery(`overview ${account} ${range.key}`, async (signal) => {
    const asked = range.resolve();
    const overview = await get<Overview>(path("accounts", account, "workers", "metrics"), { signal, query: { ...rangeQuery(asked), limit: scriptsMax } });
    return { overview, until: asked.until };
  }, { every: refresh(range.resolve()) });
}

export default function WorkersPage() {
  const account = useRoute().params["account"]!;
  const range = useRange();
  const known = useScripts(account);
  const rates = useOverview(account, range);
  const create = may("scripts:edit") && <LinkButton look="primary" href={`/${account}/new-script`}>New script</LinkButton>;
  const rows = known.data && rowsOf(known.data.scripts, known.data.serving, rates.data?.overview, rates.data?.until ?? serverNow());
  return (
    <Page title="Workers" actions={create}>
      <div class="stack">
        <Problem error={known.error} what="The scripts of this account could not be read." older={known.data !== undefined} retry={known.reload} />
        {rows === undefined ? known.loading && <Loading what="scripts" /> : rows.length === 0 ? <NoScripts account={account} /> : <List account={account} rows={rows} range={range} loading={rates.loading && !rates.data} error={rates.error} older={rates.data !== undefined} retry={rates.reload} />}
      </div>
    </Page>
  );
}

function List(props: { account: string; rows: Row[]; range: RangeState; loading: boolean; error: unknown; older: boolean; retry: () => void }) {
  const search = useSearch();
  const filter = search.get("name") ?? "";
  const order = orderOf(search.get("sort"));
  const shown = shownRows(props.rows, filter, order);
  return (
    <>
      <div class="workers-bar">
        <TextField label="Name" type="search" value={filter} placeholder="Part of a name" onInput={(name) => search.set({ name }, "replace")} />
        <SelectField label="Order" value={order} options={orders} onChange={(sort) => search.set({ sort: sort === "name" ? undefined : sort })} />
        <RangePicker range={props.range} />
      </div>
      <Problem error={props.error} what="Rates cannot be read at the moment; what serves is below all the same." older={props.older} retry={props.retry} />
      {shown.length === 0
        ? <Empty title={`No script has “${filter}” in its name`}><p><a href={search.link({ name: undefined })}>Show all {formatCount(props.rows.length)}</a></p></Empty>
        : <div aria-busy={props.loading}><Table caption="Scripts" rows={shown} rowKey={(r) => r.name} columns={columns(props.account, props.loading)} /></div>}
      <p class="small quiet" role="status">{shown.length === props.rows.length ? `${formatCount(shown.length)} ${shown.length === 1 ? "script" : "scripts"}` : `${formatCount(shown.length)} of ${formatCount(props.rows.length)} scripts`}. {props.loading ? "Their rates are on the way." : "Rates are over the chosen time."}</p>
    </>
  );
}

/** `loading`: the rates are not here yet, and so neither known nor unknown. */
function columns(account: string, loading: boolean): Column<Row>[] {
  return [
    { name: "Script", heading: true, cell: (r) => <ScriptCell account={account} row={r} /> },
    { name: "Requests", number: true, cell: (r) => (loading ? "" : perSecondText(r.rates?.perSecond)) },
    { name: "Failures", number: true, cell: (r) => (loading ? "" : <FailureCell row={r} />) },
    { name: "Over time", cell: (r) => (loading ? <span class="small quiet">on its way</span> : r.line && <Sparkline values={r.line.requests} label={lineText(r)} {...(r.rates?.failures ? { bad: r.line.failures } : {})} />) },
    { name: "Serving", cell: (r) => <ServingCell account={account} row={r} /> },
    { name: "Last deployment", cell: (r) => (r.serving ? <><Time at={r.serving.deployment.created_on} /><br /><span class="small quiet nowrap">by {author(r.serving.deployment)}</span></> : <span class="quiet">never</span>) },
  ];
}

function lineText(r: Row): string {
  return r.rates ? `${formatCount(r.rates.requests)} requests, ${formatCount(r.rates.failures)} of them failed` : "not known";
}

function FailureCell(props: { row: Row }) {
  const { rates } = props.row;
  if (!rates) return <>–</>;
  const text = rates.requests === 0 ? "–" : formatRate(rates.failureRate);
  return <span class={rates.failures > 0 ? "failing" : undefined} title={lineText(props.row)}>{text}</span>;
}

function ScriptCell(props: { account: string; row: Row }) {
  const { account, row: { name, serving } } = props;
  const ramp = serving && rampText(serving.ramp, serving.deployment.id);
  return (
    <div class="script-cell">
      <a href={scriptPage(account, name)}>{name}</a>
      {!serving && <Badge>Not deployed</Badge>}
      {serving && ramp && <RampBadge account={account} script={name} ramp={serving.ramp} serving={serving.deployment.id} />}
      {serving && !ramp && <DecisionBadge account={account} script={name} decision={serving.decision} when={serving.decision && <Time at={serving.decision.at} />} />}
    </div>
  );
}

function ServingCell(props: { account: string; row: Row }) {
  const { serving } = props.row;
  if (!serving) return <span class="quiet">nothing</span>;
  const names = versionNames(serving.versions.map((v) => ({ id: v.id, number: v.number, annotations: v.tag ? { "workers/tag": v.tag } : {} })));
  const splits = serving.deployment.versions;
  return (
    <div class="serving-cell">
      <SplitBar splits={splits} name={names.name} series={names.series} hidden />
      <SplitWords account={props.account} script={props.row.name} splits={splits} names={names} />
    </div>
  );
}

function NoScripts(props: { account: string }) {
  const command = `CLOUDFLARE_API_BASE_URL=${location.origin}/client/v4 CLOUDFLARE_ACCOUNT_ID=${props.account} CLOUDFLARE_API_TOKEN=... npx wrangler deploy`;
  return (
    <Empty title="No scripts yet">
      <p>A script is a Worker, or a service of yours that is reached by its URL. Traffic is split between its versions.</p>
      {may("scripts:edit") && <p><LinkButton look="primary" href={`/${props.account}/new-script`}>Make the first script</LinkButton></p>}
      <p>Or deploy a project with wrangler, with a token of this account:</p>
      <div class="command"><pre tabIndex={0}>{command}</pre><Copy text={command} what="the command" /></div>
    </Empty>
  );
}
