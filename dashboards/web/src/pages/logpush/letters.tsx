// What a job's destination refused for good, and what can be done with it.
import "../../styles/logpush.css";
import { useState } from "preact/hooks";
import { useRoute } from "preact-iso";
import { call, get, getPage, refuse, send } from "../../api/client";
import { formatBytes, formatCount } from "../../lib/format";
import { useAction, useQuery } from "../../lib/query";
import { useSearch } from "../../lib/url";
import { may } from "../../session";
import { Button, Confirm, Copy, Dialog, Empty, Loading, Note, Problem, Segments, Time } from "../../ui/basics";
import { Table, type Column } from "../../ui/table";
import { toast } from "../../ui/toast";
import { Pager, pageOf } from "../../ui/pager";
import { advise } from "./advice";
import { jobPath, type JobHealth, type Letter } from "./api";
import { JobPage, jobTitle } from "./parts";
import { ResendAll } from "./resendall";

const perPage = 50;
const states = [["new", "Waiting"], ["resent", "Sent again"], ["deleted", "Deleted"]] as const;

type Open = { letter: Letter; what: "content" | "delete" };

export default function Letters() {
  const params = useRoute().params;
  const account = params["account"]!;
  const id = params["id"]!;
  const search = useSearch();
  const asked = search.get("state");
  const state = asked === "resent" || asked === "deleted" ? asked : "new";
  const page = pageOf(search.get);
  const url = jobPath(account, id, "dead-letters");
  const letters = useQuery(`${url} ${state} ${page}`, (signal) => getPage<Letter>(url, { query: { state, page, per_page: perPage }, signal }), { enabled: may("logs:edit"), every: 15_000 });
  const health = useQuery(`logpush health ${account} ${id}`, (signal) => get<JobHealth>(jobPath(account, id, "health"), { signal }));
  const [open, setOpen] = useState<Open>();
  const name = health.data ? jobTitle(health.data) : `Job ${id}`;
  const changed = (): void => {
    setOpen(undefined);
    letters.reload();
    health.reload();
  };
  const total = letters.data?.info?.total_count ?? 0;
  return (
    <JobPage account={account} id={id} name={name} title={`Dead letters of ${name}`} letters={health.data?.dead_letters}>
      <div class="stack">
        {!may("logs:edit") && <Note tone="warn">Sign in with a token that has the scope <code>logs:edit</code> to see dead letters: they hold what was recorded of requests.</Note>}
        <div class="row spread">
          <Segments label="State of the letters" options={states} value={state} onChange={(s) => search.set({ state: s === "new" ? undefined : s, page: undefined })} />
          {state === "new" && total > 0 && <ResendAll url={url} waiting={total} destination={health.data?.destination ?? "the destination"} onChange={changed} />}
        </div>
        <Problem error={letters.error} what="The letters could not be read." older={letters.data !== undefined} retry={letters.reload} />
        {!letters.data && letters.loading && <Loading what="letters" />}
        {letters.data?.items.length === 0 && total > 0 && <Empty title={`Page ${page} has no letters`}><p><a href={search.link({ page: undefined })}>To the first page</a></p></Empty>}
        {letters.data?.items.length === 0 && total === 0 && (
          <Empty title={state === "new" ? "No dead letters wait" : state === "resent" ? "No letter was sent again lately" : "No letter was deleted lately"}>
            <p>A record becomes a dead letter when the destination refuses it alone and for good, while it takes others. It waits here until it is sent again or deleted.</p>
          </Empty>
        )}
        {letters.data && state === "new" && <Advice letters={letters.data.items} />}
        {letters.data && letters.data.items.length > 0 && <LetterTable letters={letters.data.items} url={url} onOpen={setOpen} onChange={changed} />}
        <Pager info={letters.data?.info} what="letters" />
      </div>
      {open?.what === "content" && <Content url={url} letter={open.letter} onClose={() => setOpen(undefined)} />}
      {open?.what === "delete" && <Delete url={url} letter={open.letter} onClose={() => setOpen(undefined)} onDone={changed} />}
    </JobPage>
  );
}

function LetterTable(props: { letters: Letter[]; url: string; onOpen: (open: Open) => void; onChange: () => void }) {
  const columns: Column<Letter>[] = [
    { name: "Refused", heading: true, cell: (l) => <><Time at={l.created_on} /><div class="small quiet"><code>{l.id.slice(0, 8)}</code></div></> },
    { name: "Records", number: true, cell: (l) => formatCount(l.records) },
    { name: "Events from", cell: (l) => <Time at={l.from} absolute /> },
    { name: "Reason", cell: (l) => <div class="logpush-message">{reasonOf(l)}</div> },
    { name: "Tries", number: true, cell: (l) => formatCount(l.attempts) },
    { name: "Actions", quiet: true, cell: (l) => l.state === "new" && <Actions {...props} letter={l} /> },
  ];
  return <Table caption="Dead letters, oldest first" columns={columns} rows={props.letters} rowKey={(l) => l.id} />;
}

const reasonOf = (l: Letter): string => (l.status === 0 || l.reason.startsWith(String(l.status)) ? l.reason : `${l.status} ${l.reason}`);

/** What to do, once for all letters that need the same. */
function Advice(props: { letters: Letter[] }) {
  const sentences = new Set(props.letters.map((l) => advise(l.reason, l.status)).filter((text) => text !== undefined));
  if (sentences.size === 0) return null;
  return <Note>{[...sentences].map((text) => <p key={text}>{text}</p>)}</Note>;
}

function Actions(props: { letter: Letter; url: string; onOpen: (open: Open) => void; onChange: () => void }) {
  const { letter } = props;
  const short = letter.id.slice(0, 8);
  const resend = useAction(async () => {
    const answer = await call<{ state: string; error: string | null }>("POST", `${props.url}/${letter.id}/resend`);
    props.onChange();
    if (answer.error !== null) throw new Error(`Letter ${short} was refused again: ${answer.error}`);
    toast(`Letter ${short} was taken.`);
  });
  return (
    <div class="stack logpush-actions">
      <div class="row">
        <Button compact onClick={() => props.onOpen({ letter, what: "content" })} aria-label={`Show the content of letter ${short}`}>Content</Button>
        <Button compact busy={resend.busy} onClick={() => void resend.run()} aria-label={`Send again letter ${short}`}>Send again</Button>
        <Button compact onClick={() => props.onOpen({ letter, what: "delete" })} aria-label={`Delete letter ${short}`}>Delete</Button>
      </div>
      <Problem error={resend.error} />
    </div>
  );
}

/** More than a person reads, and a browser lays out at once. */
const shownMax = 64 * 1024;

function Content(props: { url: string; letter: Letter; onClose: () => void }) {
  const url = `${props.url}/${props.letter.id}/content`;
  const content = useQuery(url, async (signal) => {
    const response = await send("GET", url, { signal });
    return response.ok ? response.text() : refuse(response);
  });
  const text = content.data;
  return (
    <Dialog title={`Letter ${props.letter.id.slice(0, 8)}`} wide onClose={props.onClose}>
      <p class="small quiet">{formatCount(props.letter.records)} {props.letter.records === 1 ? "record" : "records"} of batch <code>{props.letter.batch_id}</code>, uncompressed, to the byte as the destination got it.</p>
      <Problem error={content.error} what="The content could not be read." retry={content.reload} />
      {text === undefined && content.loading && <Loading what="the content" />}
      {text !== undefined && <pre class="logpush-output" tabIndex={0} aria-label="Content of the letter">{text.slice(0, shownMax)}</pre>}
      {text !== undefined && text.length > shownMax && <p class="small quiet">These are the first {formatBytes(shownMax)} of {formatBytes(text.length)}. A download has all of it.</p>}
      <div class="actions">
        {text !== undefined && <Copy text={text} what="the content" />}
        <a class="button" href={url} download={`dead-letter-${props.letter.id}.txt`}>Download</a>
        <Button onClick={props.onClose}>Close</Button>
      </div>
    </Dialog>
  );
}

function Delete(props: { url: string; letter: Letter; onClose: () => void; onDone: () => void }) {
  const short = props.letter.id.slice(0, 8);
  const remove = useAction(async () => {
    await call("DELETE", `${props.url}/${props.letter.id}`);
    toast(`Letter ${short} is deleted.`);
    props.onDone();
  });
  return (
    <Confirm title={`Delete letter ${short}?`} action={`Delete letter ${short}`} danger busy={remove.busy} error={remove.error} onConfirm={() => void remove.run()} onClose={props.onClose}>
      <p>Its {formatCount(props.letter.records)} {props.letter.records === 1 ? "record is" : "records are"} not delivered, and the content is gone. This cannot be undone.</p>
    </Confirm>
  );
}
