// The live tail.
import { useEffect, useRef, useState } from "preact/hooks";
import { withQuery, scriptPath } from "../../api/client";
import { formatCount } from "../../lib/format";
import { Badge, Button, Note, Problem, Time, type Tone } from "../../ui/basics";
import type { TraceEvent } from "./event";
import { EventRows } from "./eventrows";
import { asQuery, type Filter } from "./filters";
import { follow, keptMax, noTail, type Following, type Tail } from "./stream";
import type { VersionFacts } from "./versions";

interface Props {
  account: string;
  script: string;
  filter: Filter;
  versions: Map<string, VersionFacts> | undefined;
  onOpen: (event: TraceEvent) => void;
}

const states: Record<Tail["state"], [Tone | undefined, string]> = {
  connecting: [undefined, "Connecting"], open: ["good", "Live"], reconnecting: ["warn", "Connection lost, connecting again"], closed: ["bad", "Closed"],
};

const noEvents: Record<Tail["state"], string> = {
  connecting: "Connecting to the stream.",
  open: "Waiting for events. Each request to the script that fits the filter appears here within a second.",
  reconnecting: "No events came before the connection was lost.",
  closed: "The stream is closed: no event appears here until it is followed again.",
};

export function LiveList(props: Props) {
  const url = withQuery(scriptPath(props.account, props.script, "events", "live"), asQuery(props.filter));
  const { tail, waiting, paused, pause, clear, again } = useTail(url);
  const [tone, text] = paused && tail.state === "open" ? [undefined, "Paused"] as const : states[tail.state];
  return (
    <section class="stack" aria-labelledby="live-events">
      <div class="row spread">
        <div class="row">
          <h2 id="live-events">Live</h2>
          <span role="status"><Badge tone={tone}>{text}</Badge></span>
          <span class="small quiet">{summary(tail, waiting)}</span>
        </div>
        <div class="row">
          <Button onClick={() => pause(!paused)} aria-pressed={paused}>{paused ? "Resume" : "Pause"}</Button>
          <Button look="plain" onClick={clear} disabled={tail.kept.length === 0}>Clear list</Button>
        </div>
      </div>
      <Problem error={tail.error} what="Events cannot be followed." retry={again} />
      {tail.dropped > 0 && <Note tone="warn">The server left out {formatCount(tail.dropped)} {tail.dropped === 1 ? "event" : "events"} that came faster than this page took them. A narrower filter helps; they are among the stored events.</Note>}
      {tail.notices.length > 0 && (
        <details class="notices" open={tail.notices.length === 1}>
          <summary>{tail.notices.length === 1 ? "A notice of the stream" : `${tail.notices.length} newest notices of the stream`}</summary>
          <ul>{tail.notices.map((n, i) => <li key={i}><Time at={n.at} absolute /> {n.text}</li>)}</ul>
        </details>
      )}
      {tail.kept.length === 0
        ? <p class="quiet waiting">{noEvents[tail.state]}</p>
        : <div class="live-box"><EventRows caption="Events as they come, newest first" rows={tail.kept.map((k) => ({ key: String(k.id), event: k.event }))} versions={props.versions} onOpen={props.onOpen} /></div>}
    </section>
  );
}

function summary(tail: Tail, waiting: number): string {
  const came = `${formatCount(tail.received)} came`;
  const kept = tail.received > tail.kept.length + waiting ? `; the newest ${formatCount(tail.kept.length)} are kept, ${keptMax} at most` : "";
  return `${came}${kept}${waiting > 0 ? `; ${formatCount(waiting)} wait until you resume` : ""}`;
}

/** Follows a stream as long as the component is shown. Another address begins anew. */
function useTail(url: string) {
  const [turn, setTurn] = useState(0);
  const [paused, setPaused] = useState(false);
  const [shown, setShown] = useState<{ tail: Tail; waiting: number }>({ tail: noTail, waiting: 0 });
  const following = useRef<Following | undefined>(undefined);
  useEffect(() => {
    setShown({ tail: noTail, waiting: 0 });
    setPaused(false);
    const f = follow(url, (tail, waiting) => setShown({ tail, waiting }));
    following.current = f;
    return () => f.close();
  }, [url, turn]);
  return {
    ...shown,
    paused,
    pause: (on: boolean) => { setPaused(on); following.current?.pause(on); },
    clear: () => following.current?.clear(),
    again: () => setTurn((n) => n + 1),
  };
}
