// Decisions: the list, and one of them explained.
import { capital, shortId } from "../../lib/format";
import { marksOf } from "../../lib/marks";
import { useQuery } from "../../lib/query";
import { scriptPage, useSearch } from "../../lib/url";
import { tagger } from "../../lib/versions";
import { Badge, Empty, LinkButton, Loading, Problem, Time, VersionName, type Tone } from "../../ui/basics";
import { Table } from "../../ui/table";
import { Pager, pageOf } from "../../ui/pager";
import { readDecision, readDecisions, readDeployments, readNotifications, readRevisions, type Notification, type WholeDecision } from "./api";
import { counts } from "./evidence";
import { EvidenceChart, nameWith } from "./evidencechart";
import { EvidenceTable } from "./evidencetable";
import { limitName } from "./limits";
import { outcome } from "./outcome";
import { news, type On } from "./sentences";

interface Props {
  account: string;
  script: string;
  tags: Map<string, string> | undefined;
}

export function Decisions(props: Props) {
  const search = useSearch();
  const id = search.get("decision");
  return id === undefined ? <DecisionList {...props} /> : <OneDecision {...props} id={id} />;
}

function DecisionList({ account, script, tags }: Props) {
  const search = useSearch();
  const told = tagger(tags);
  const page = pageOf(search.get);
  const answer = useQuery(`decisions ${account} ${script} ${page}`, (signal) => readDecisions(account, script, page, signal), { every: 5000 });
  if (!answer.data) return answer.error ? <Problem error={answer.error} what="The decisions cannot be listed." retry={answer.reload} /> : <Loading what="decisions" />;
  const { items, info } = answer.data;
  if (items.length === 0 && page === 1) {
    return <Empty title="No decision yet"><p>A decision is kept whenever a version is rolled back or told of, a ramp goes on or is held, or numbers could not be read.</p></Empty>;
  }
  return (
    <div class="stack">
      <Problem error={answer.error} what="The decisions could not be read." older retry={answer.reload} />
      {items.length > 0 && <Table caption={`Decisions about ${script}, newest first`} rows={items} rowKey={(d) => d.id} columns={[
        { name: "When", cell: (d) => <Time at={d.at} /> },
        { name: "What", cell: (d) => { const [word, tone] = outcome(d); return <Badge tone={tone}>{word}</Badge>; } },
        { name: "Version", cell: (d) => <VersionName id={d.version_id} tag={tags?.get(d.version_id)} /> },
        { name: "Why", heading: true, cell: (d) => <a class="why" href={search.link({ view: "decisions", decision: d.id, page: undefined })}>{told(d.sentence)}</a> },
      ]} />}
      <Pager info={info} what="decisions" />
    </div>
  );
}

function OneDecision({ account, script, tags, id }: Props & { id: string }) {
  const search = useSearch();
  const answer = useQuery(`decision ${account} ${script} ${id}`, (signal) => readDecision(account, script, id, signal));
  const back = <p><a href={search.link({ decision: undefined, view: "decisions" })}>All decisions</a></p>;
  if (!answer.data) return <>{back}{answer.error ? <Problem error={answer.error} what="This decision cannot be shown." retry={answer.reload} /> : <Loading what="the decision" />}</>;
  return <div class="stack">{back}<Explained account={account} script={script} tags={tags} decision={answer.data} /></div>;
}

function Explained({ account, script, tags, decision }: Props & { decision: WholeDecision }) {
  const deployments = useQuery(`deployments ${account} ${script}`, (signal) => readDeployments(account, script, signal));
  const owner = { account, script: decision.policy_source === "account" ? undefined : script };
  const revisions = useQuery(`revisions ${account} ${owner.script ?? ""}`, (signal) => readRevisions(owner, signal));
  const policy = revisions.data?.find((r) => r.revision === decision.policy_revision)?.policy;
  const nameOf = nameWith(tags);
  const told = tagger(tags);
  const base = scriptPage(account, script);
  const [word, tone] = outcome(decision);
  const at = Date.parse(decision.at) / 1000;
  const marks = [...marksOf((deployments.data ?? []).filter((d) => d.id !== decision.to_deployment), [], nameOf, told), { at, text: word, tone: tone === "bad" ? "bad" as const : "accent" as const }];
  return (
    <section class="panel" aria-labelledby="decision">
      <div class="row spread"><h2 id="decision">{capital(told(decision.sentence))}</h2><Badge tone={tone}>{word}</Badge></div>
      <div class="stack">
        <dl class="facts decision">
          <div><dt>When</dt><dd><Time at={decision.at} named /></dd></div>
          <div><dt>Version</dt><dd><VersionName id={decision.version_id} tag={tags?.get(decision.version_id)} href={`${base}/versions/${decision.version_id}`} /></dd></div>
          {decision.baseline_version_id && <div><dt>Held against</dt><dd><VersionName id={decision.baseline_version_id} tag={tags?.get(decision.baseline_version_id)} href={`${base}/versions/${decision.baseline_version_id}`} /></dd></div>}
          {decision.metric && <div><dt>Limit that decided</dt><dd>{limitName(decision.metric)}</dd></div>}
          {decision.policy_revision !== undefined && <div><dt>Policy</dt><dd><PolicyLink account={account} base={base} decision={decision} /></dd></div>}
        </dl>
        {decision.numbers.requests !== undefined && <p>{nameOf(decision.version_id)}: {counts(decision.numbers)}.</p>}
        <Deployments decision={decision} base={base} />
        {(decision.evidence ?? []).length > 0 && <EvidenceChart label={`Evidence against ${nameOf(decision.version_id)} until the decision`} evidence={decision.evidence ?? []} marks={marks} />}
        {(decision.evidence ?? []).length > 0 && <EvidenceTable evidence={decision.evidence ?? []} blocks={policy?.evidence === "blocks"} />}
        <div class="row">
          {decision.baseline_version_id && <LinkButton href={linkOver(`${base}/compare`, decision, { baseline: decision.baseline_version_id, candidate: decision.version_id })}>Compare both, with exceptions that are new</LinkButton>}
          <LinkButton href={linkOver(`${base}/live`, decision, { version: decision.version_id, failed: "true" })}>Failed requests of the version</LinkButton>
        </div>
        <Told account={account} script={script} decision={decision} />
      </div>
    </section>
  );
}

/** The address of a page about the time that the API's own links are about. */
function linkOver(page: string, d: WholeDecision, parameters: Record<string, string>): string {
  const asked = new URL(d.links.metrics, location.origin).searchParams;
  const range = ["since", "until"].flatMap((name) => (asked.get(name) ? [[name, asked.get(name)!]] : []));
  return `${page}?${new URLSearchParams([...Object.entries(parameters), ...range]).toString()}`;
}

function PolicyLink({ account, base, decision }: { account: string; base: string; decision: WholeDecision }) {
  const own = decision.policy_source !== "account";
  const page = own ? `${base}/rollback?view=policy&` : `/${account}/rollback?`;
  return <a href={`${page}revision=${decision.policy_revision}`}>{own ? "its own" : "the account’s"}, revision {decision.policy_revision}</a>;
}

function Deployments({ decision, base }: { decision: WholeDecision; base: string }) {
  const link = (id: string) => <a href={`${base}/deployments`}><code>{shortId(id)}</code></a>;
  if (!decision.to_deployment) return <p>Traffic stayed as deployment {link(decision.from_deployment)} has it.</p>;
  return <p>Deployment {link(decision.to_deployment)} replaced {link(decision.from_deployment)}.</p>;
}

const delivery: Record<Notification["state"], [string, Tone]> = {
  waiting: ["Waiting", "accent"], sent: ["Sent", "good"], failed: ["Given up", "bad"], dropped: ["Dropped", "warn"],
};

function Told({ account, script, decision }: { account: string; script: string; decision: WholeDecision }) {
  const answer = useQuery(`notifications ${account} ${script}`, (signal) => readNotifications(account, script, signal), { every: 5000 });
  const list = (answer.data ?? []).filter((n) => n.decision_id === decision.id);
  return (
    <>
      <h3>Who was told</h3>
      <Problem error={answer.error} what="The messages cannot be listed." older={answer.data !== undefined} retry={answer.reload} />
      {answer.data && list.length === 0 && <p class="quiet">Nobody, or it is longer ago than messages are kept.</p>}
      {list.length > 0 && (
        <Table caption="Messages about this decision" rows={list} rowKey={(n) => n.id} columns={[
          { name: "To", heading: true, cell: (n) => <>{n.target.name} <span class="quiet">{n.target.type}</span></> },
          { name: "Of", cell: (n) => news[n.type as On] },
          { name: "State", cell: (n) => <Badge tone={delivery[n.state][1]}>{delivery[n.state][0]}</Badge> },
          { name: "Tries", number: true, cell: (n) => n.attempts },
          { name: "Last try", cell: (n) => <Time at={n.tried_on ?? undefined} /> },
          { name: "Next try", cell: (n) => <Time at={n.next_try_on ?? undefined} /> },
          { name: "Last error", cell: (n) => n.last_error ?? "–" },
        ]} />
      )}
    </>
  );
}
