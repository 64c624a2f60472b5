// What was changed in an account, by whom.
import { useEffect, useState } from "preact/hooks";
import { useRoute } from "preact-iso";
import { get, getPage, path, type Schemas } from "../../api/client";
import { shortId } from "../../lib/format";
import { fromInput, toInput } from "../../lib/moments";
import { useQuery } from "../../lib/query";
import { zoneName } from "../../lib/time";
import { useSearch, type Search } from "../../lib/url";
import { Button, Dialog, Empty, Loading, Problem, SelectField, TextField, Time } from "../../ui/basics";
import { Page } from "../../ui/page";
import { Pager, pageOf } from "../../ui/pager";
import { Table, type Column } from "../../ui/table";
import "../../styles/system.css";
import { differences, leafText, type Json } from "./difference";

type Entry = Schemas["AuditLog"];

const perPage = 50;
const filters = ["resource", "action", "email", "by", "since", "before"] as const;

export default function AuditPage() {
  const { params } = useRoute();
  const account = params["account"]!;
  const search = useSearch();
  const page = pageOf(search.get);
  const query = {
    "resource.id": search.get("resource"), "action.type": search.get("action"), "actor.email": search.get("email"), "actor.type": search.get("by"),
    since: search.get("since"), before: search.get("before"), page, per_page: perPage,
  };
  const url = path("accounts", account, "audit_logs");
  const answer = useQuery(`audit ${account} ${JSON.stringify(query)}`, (signal) => getPage<Entry>(url, { query, signal }));
  const entry = search.get("entry");
  return (
    <Page title="Audit log">
      <div class="stack" aria-busy={answer.loading}>
        <Filters search={search} />
        <Problem error={answer.error} what="The audit log could not be read." retry={answer.reload} />
        {answer.data ? <Entries entries={answer.data.items} total={answer.data.info?.total_count ?? 0} search={search} /> : !answer.error && <Loading what="the audit log" />}
        <Pager info={answer.data?.info} what="changes" />
        {entry !== undefined && <EntryDialog account={account} id={entry} known={answer.data?.items} onClose={() => search.set({ entry: undefined })} />}
      </div>
    </Page>
  );
}

function Filters({ search }: { search: Search }) {
  const asked = Object.fromEntries(filters.map((f) => [f, search.get(f) ?? ""])) as Record<(typeof filters)[number], string>;
  const [draft, setDraft] = useState(asked);
  useEffect(() => setDraft(asked), [JSON.stringify(asked)]);
  const field = (name: (typeof filters)[number]) => ({ value: draft[name], onInput: (value: string) => setDraft((d) => ({ ...d, [name]: value })) });
  const moment = (name: "since" | "before") => ({ type: "datetime-local" as const, value: toInput(draft[name]), onInput: (text: string) => setDraft((d) => ({ ...d, [name]: fromInput(text) })) });
  const submit = (event: Event): void => {
    event.preventDefault();
    const trimmed = Object.fromEntries(filters.map((f) => [f, draft[f].trim()]));
    search.set({ ...trimmed, page: undefined, entry: undefined });
  };
  const active = filters.some((f) => search.get(f) !== undefined);
  return (
    <form class="audit-filters" aria-label="Filters of the audit log" onSubmit={submit}>
      <TextField label="What" {...field("resource")} hint="A script, a job's number; what belongs to it is found too" />
      <TextField label="Action" {...field("action")} hint="deployment.create, or deployment for all of the kind" />
      <TextField label="E-mail of who did it" {...field("email")} />
      <SelectField label="By" value={draft.by} options={[["", "Anybody"], ["user", "People and programs"], ["system", "Tidegate itself"]]} onChange={(by) => setDraft((d) => ({ ...d, by }))} />
      <TextField label={`From (${zoneName()})`} {...moment("since")} />
      <TextField label={`Before (${zoneName()})`} {...moment("before")} />
      <div class="row">
        <Button submit look="primary">Filter</Button>
        {active && <Button onClick={() => search.set({ ...Object.fromEntries(filters.map((f) => [f, undefined])), page: undefined })}>Show all</Button>}
      </div>
    </form>
  );
}

function actorOf(e: Entry): string {
  if (e.actor.type === "system") return "Tidegate itself";
  return e.actor.email ?? `token ${shortId(e.actor.id ?? "")}`;
}

function Entries({ entries, total, search }: { entries: Entry[]; total: number; search: Search }) {
  if (entries.length === 0) {
    if (total > 0) return null; // the pager says that this page is past the end
    const filtered = filters.some((f) => search.get(f) !== undefined);
    return <Empty title={filtered ? "No change fits these filters" : "No change yet"}><p>{filtered && "Widen them, or show all. "}What was refused has changed nothing and is not listed.</p></Empty>;
  }
  const columns: Column<Entry>[] = [
    { name: `When (${zoneName()})`, cell: (e) => <Time at={e.when} absolute /> },
    { name: "Action", heading: true, cell: (e) => <a href={search.link({ entry: e.id })}>{e.action.type}</a> },
    { name: "What", cell: (e) => <span class="audit-what">{e.resource.id}</span> },
    { name: "By", cell: (e) => actorOf(e) },
    { name: "Through", cell: (e) => e.interface },
  ];
  return <Table caption="Changes, newest first" columns={columns} rows={entries} rowKey={(e) => e.id} />;
}

function EntryDialog(props: { account: string; id: string; known: Entry[] | undefined; onClose: () => void }) {
  // One that was linked to need not be on the page that is shown.
  const known = props.known?.find((e) => e.id === props.id);
  const asked = useQuery(`audit entry ${props.account} ${props.id}`, async (signal) => {
    const list = await get<Entry[]>(path("accounts", props.account, "audit_logs"), { query: { id: props.id }, signal });
    if (list.length === 0) throw new Error(`This account has no change with the id ${props.id}.`);
    return list[0]!;
  }, { enabled: known === undefined });
  const e = known ?? asked.data;
  return (
    <Dialog title={e ? `${e.action.type}: ${e.resource.id}` : "A change"} onClose={props.onClose} wide>
      <Problem error={asked.error} retry={asked.reload} />
      {!e && asked.loading && <Loading what="the change" />}
      {e && (
        <>
          <dl class="facts">
            <div><dt>When</dt><dd><Time at={e.when} named /></dd></div>
            <div><dt>By</dt><dd>{actorOf(e)}</dd></div>
            <div><dt>Through</dt><dd>{e.interface}</dd></div>
            {e.actor.id && <div><dt>Token</dt><dd><code>{e.actor.id}</code></dd></div>}
          </dl>
          <Difference before={e.oldValueJson as Json | undefined} after={e.newValueJson as Json | undefined} />
        </>
      )}
      <div class="actions"><Button onClick={props.onClose}>Close</Button></div>
    </Dialog>
  );
}

function Difference({ before, after }: { before: Json | undefined; after: Json | undefined }) {
  const changes = differences(before, after);
  if (before === undefined && after === undefined) return <p>How it was before and after is not kept: it may be a secret.</p>;
  if (changes.length === 0) return <p>It was saved again as it was.</p>;
  const side = (v: Json | undefined, kind: "del" | "ins") => v === undefined ? <span class="quiet">not there</span> : kind === "del" ? <del>{leafText(v)}</del> : <ins>{leafText(v)}</ins>;
  return (
    <div class="difference">
      <Table caption="What changed" rows={changes} rowKey={(c) => c.path} columns={[
        { name: "Member", heading: true, cell: (c) => (c.path === "" ? "(all of it)" : <code>{c.path}</code>) },
        { name: "Before", cell: (c) => side(c.before, "del") },
        { name: "After", cell: (c) => side(c.after, "ins") },
      ]} />
    </div>
  );
}
