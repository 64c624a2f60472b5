// Calls between all Workers of an account.
import { useRoute } from "preact-iso";
import { formatCount } from "../../lib/format";
import { useRange } from "../../lib/range";
import { useSearch } from "../../lib/url";
import { Empty, Loading, Problem, Segments } from "../../ui/basics";
import { Page } from "../../ui/page";
import { RangePicker } from "../../ui/range";
import { Edges, useCalls, type Calls } from "./edges";
import { edgesOf, isSkewed } from "./matrix";
import "../../styles/calls.css";

export default function CallsPage() {
  const { params } = useRoute();
  const account = params["account"]!;
  const range = useRange();
  const answer = useCalls(account, range, {});
  return (
    <Page title="Calls between Workers" actions={<RangePicker range={range} />}>
      <div class="stack" aria-busy={answer.loading}>
        <Problem error={answer.error} what="The calls could not be read." older={answer.data !== undefined} retry={answer.reload} />
        {answer.data ? <Found account={account} calls={answer.data} /> : !answer.error && <Loading what="calls" />}
      </div>
    </Page>
  );
}

const choices = [["all", "All calls"], ["skew", "Several versions"], ["failing", "With failures"]] as const;

function Found({ account, calls }: { account: string; calls: Calls }) {
  const search = useSearch();
  const show = choices.find(([value]) => value === search.get("show"))?.[0] ?? "all";
  if (calls.pairs.length === 0) {
    return (
      <Empty title="No Worker called another one in this time">
        <p>Workers call each other through service bindings. Choose a longer time, or add a binding to a Worker and let it call.</p>
      </Empty>
    );
  }
  const wanted = new Set(edgesOf(calls.pairs).filter((e) => (show === "skew" ? isSkewed(e) : show === "failing" ? e.failures > 0 : true)).flatMap((e) => e.pairs));
  const shown: Calls = show === "all" ? calls : { ...calls, pairs: calls.pairs.filter((p) => wanted.has(p)), total_pairs: wanted.size };
  const cut = show !== "all" && calls.total_pairs > calls.pairs.length;
  const among = cut ? ", among the busiest" : "";
  return (
    <>
      <div class="row"><Segments label="Which calls" options={choices} value={show} onChange={(value) => search.set({ show: value === "all" ? undefined : value })} /></div>
      {cut && <p class="small">Chosen among the busiest {formatCount(calls.pairs.length)} of {formatCount(calls.total_pairs)} pairs of versions. A shorter time shows fewer.</p>}
      {shown.pairs.length === 0
        ? <Empty title={(show === "skew" ? "Each two Workers met in one pair of versions only" : "No call failed in this time") + among}><p>Choose a longer time, or show all calls.</p></Empty>
        : <Edges account={account} calls={shown} />}
    </>
  );
}
