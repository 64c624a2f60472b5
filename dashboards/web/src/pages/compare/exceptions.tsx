// Exceptions that the candidate throws and the baseline does not.
import type { Schemas } from "../../api/client";
import { formatCount } from "../../lib/format";
import type { Answer } from "../../lib/query";
import { Loading, Note, Problem, Time } from "../../ui/basics";
import { Table } from "../../ui/table";
import { readEvent } from "./event";
import type { Pair } from "./versions";

type Kind = Schemas["ExceptionKind"];

interface Props {
  pair: Pair;
  answer: Answer<Schemas["Exceptions"]>;
  name: (id: string) => string;
  /** The address of the script's pages. */
  base: string;
  link: (changes: Record<string, string | undefined>) => string;
}

/** `allowed`: whether the token may read events. */
export function NewExceptions(props: Props & { allowed: boolean }) {
  const { answer } = props;
  return (
    <section class="stack" aria-labelledby="new-exceptions">
      <h2 id="new-exceptions">Exceptions that are new in {props.name(props.pair.candidate)}</h2>
      {!props.allowed && <Note>The token that you signed in with may not read events. One with the scope <code>logs:read</code> shows the exceptions.</Note>}
      <Problem error={answer.error} what="The exceptions could not be counted." older={answer.data !== undefined} retry={answer.reload} />
      {answer.data ? <Kinds {...props} found={answer.data} /> : props.allowed && !answer.error && <Loading what="exceptions" />}
    </section>
  );
}

function Kinds({ found, pair, name, base, link }: Props & { found: Schemas["Exceptions"] }) {
  const kinds = found.exceptions;
  if (kinds.length === 0) return <p class="quiet">{name(pair.candidate)} threw nothing in this time that {name(pair.baseline)} did not throw, too, then or in the 24 hours before.</p>;
  const live = `${base}/live?${new URLSearchParams({ version: pair.candidate, outcome: "exception" }).toString()}`;
  const columns = [
    { name: "Exception", heading: true, cell: (k: Kind) => <><span class="exception-name">{k.name}: {k.message}</span>{k.frame && <div class="small quiet mono">at {k.frame}</div>}</> },
    { name: "Requests", number: true, cell: (k: Kind) => formatCount(k.requests) },
    { name: "First seen", cell: (k: Kind) => <Time at={k.first_seen} /> },
    { name: "Last seen", cell: (k: Kind) => <Time at={k.last_seen} /> },
    { name: "Sample", cell: (k: Kind) => <Sample kind={k} link={link} /> },
  ];
  return (
    <>
      <Table caption={`Exceptions that are new in ${name(pair.candidate)}, the most frequent first`} columns={columns} rows={kinds} rowKey={(k) => k.fingerprint} />
      <p class="small">
        {found.total_exceptions > kinds.length && <>These are the {kinds.length} most frequent of {found.total_exceptions} kinds. </>}
        <a href={live}>Watch exceptions of {name(pair.candidate)} as they come</a>
      </p>
    </>
  );
}

function Sample(props: { kind: Kind; link: (changes: Record<string, string | undefined>) => string }) {
  const event = props.kind.sample && readEvent(props.kind.sample);
  if (!event) return <span class="quiet">no longer kept</span>;
  if (!event.ray) return <Time at={event.at} />;
  return <a class="nowrap" href={props.link({ ray: event.ray })} aria-label={`Sample event of ${props.kind.name}: ${props.kind.message}`}>Event and logs</a>;
}
