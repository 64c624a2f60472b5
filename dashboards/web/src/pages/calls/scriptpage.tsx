// Calls of one Worker and by it.
import { useRoute } from "preact-iso";
import { useRange, type RangeState } from "../../lib/range";
import { Loading, Problem } from "../../ui/basics";
import { ScriptPage } from "../../ui/page";
import { RangePicker } from "../../ui/range";
import { Edges, useCalls } from "./edges";
import "../../styles/calls.css";

export default function ScriptCallsPage() {
  const { params } = useRoute();
  const account = params["account"]!;
  const script = params["script"]!;
  const range = useRange();
  return (
    <ScriptPage account={account} script={script} title="Calls" actions={<RangePicker range={range} />}>
      <div class="stack">
        <Side account={account} range={range} of={{ callee: script }} title={`Who calls ${script}`} none={`No Worker called ${script} in this time. Requests of clients are no calls.`} />
        <Side account={account} range={range} of={{ caller: script }} title={`Whom ${script} calls`} none={`${script} called no Worker in this time, or only by RPC, of which nobody knows who called.`} />
      </div>
    </ScriptPage>
  );
}

function Side(props: { account: string; range: RangeState; of: { caller?: string; callee?: string }; title: string; none: string }) {
  const answer = useCalls(props.account, props.range, props.of);
  return (
    <section class="stack" aria-label={props.title} aria-busy={answer.loading}>
      <h2>{props.title}</h2>
      <Problem error={answer.error} what="The calls could not be read." older={answer.data !== undefined} retry={answer.reload} />
      {answer.data
        ? answer.data.pairs.length > 0 ? <Edges account={props.account} calls={answer.data} /> : <p class="quiet">{props.none}</p>
        : !answer.error && <Loading what="calls" />}
    </section>
  );
}
