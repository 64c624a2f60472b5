// What the versions of a script did, side by side.
import { useEffect, useMemo } from "preact/hooks";
import { useRoute } from "preact-iso";
import { may } from "../../session";
import { shortId } from "../../lib/format";
import { marksOf } from "../../lib/marks";
import { useRange, type RangeState } from "../../lib/range";
import { zone, zoneName } from "../../lib/time";
import { scriptPage, useSearch } from "../../lib/url";
import { tagger } from "../../lib/versions";
import { Empty, LinkButton, Loading, Note, Problem, Button } from "../../ui/basics";
import { ScriptPage } from "../../ui/page";
import { RangePicker } from "../../ui/range";
import "../../styles/compare.css";
import { Charts } from "./charts";
import { useComparison, useKept, useNewExceptions, useTraffic, type Traffic } from "./data";
import { DifferencePanel } from "./difference";
import { EventDialog } from "./eventdialog";
import { NewExceptions } from "./exceptions";
import { align } from "./series";
import { Totals } from "./totals";
import { likelyPair, versionFacts, type Pair, type VersionFacts } from "./versions";
import { VersionBar } from "./versionbar";

export default function ComparePage() {
  const { params } = useRoute();
  const account = params["account"]!;
  const script = params["script"]!;
  const range = useRange();
  const answer = useTraffic(account, script, range);
  const traffic = useKept(answer, `${account} ${script}`);
  return (
    <ScriptPage account={account} script={script} title="Compare versions" actions={<RangePicker range={range} />}>
      <div class="stack" aria-busy={answer.loading}>
        <Problem error={answer.error} what="The numbers could not be read." older={traffic !== undefined} retry={answer.reload} />
        {traffic ? <Compared account={account} script={script} traffic={traffic} range={range} /> : !answer.error && <Loading what="traffic" />}
      </div>
    </ScriptPage>
  );
}

interface ComparedProps {
  account: string;
  script: string;
  traffic: Traffic;
  range: RangeState;
}

function Compared({ account, script, traffic, range }: ComparedProps) {
  const search = useSearch();
  const base = scriptPage(account, script);
  const versions = useMemo(() => versionFacts(traffic.versions, traffic.metrics.versions), [traffic]);
  const name = (id: string): string => versions.get(id)?.name ?? shortId(id);
  const lines = useMemo(() => align(traffic.metrics, traffic.at), [traffic]);
  const marks = useMemo(() => marksOf(traffic.deployments, traffic.decisions, name, tagger(new Map(Array.from(versions, ([id, v]) => [id, v.tag])))), [traffic]);
  const pair = usePair(traffic, versions);
  const events = may("logs:read", "scripts:edit");
  const question = { account, script, traffic, pair };
  const comparison = useComparison(question);
  const exceptions = useNewExceptions(question, events);

  const seen = traffic.metrics.versions.map((v) => versions.get(v.version_id)!).sort((a, b) => b.number - a.number);
  const hidden = (search.get("hidden") ?? "").split(",").filter(Boolean);
  const shown = seen.filter((v) => !hidden.includes(shortId(v.id)));
  const ray = search.get("ray");
  const unknown = pair ? [pair.baseline, pair.candidate].filter((id) => !versions.has(id)) : [];
  return (
    <>
      <VersionBar versions={versions} seen={seen} hidden={hidden} pair={pair}
        onHide={(ids) => search.set({ hidden: ids.join(",") }, "replace")} onPair={(p) => search.set({ ...p })} />
      {seen.length === 0
        ? (
          <Empty title="No requests in this time">
            <p>Send some to the script, or look at a longer time.</p>
            <div class="row"><Button onClick={() => range.follow(86400)}>Show the last day</Button><LinkButton href={base}>To the script</LinkButton></div>
          </Empty>
        )
        : (
          <>
            {unknown.length === 0 ? <DifferencePanel pair={pair} answer={comparison} name={name} rollback={`${base}/rollback`} /> : (
              <Note tone="warn"><p>{unknown.map(shortId).join(" and ")} {unknown.length === 1 ? "is" : "are"} none of the newest versions of {script}, and had no requests in this time: there is nothing to compare. Choose another version, or another time.</p></Note>
            )}
            <Charts lines={lines} versions={shown} marks={marks} onZoom={range.fix} />
            <p class="small quiet">Times are {zone.value === "UTC" ? "" : "local, "}{zoneName()}. The step is {lines.step} s; one that is not over is left out.</p>
            <Totals metrics={traffic.metrics} versions={versions} base={base} />
            {pair && unknown.length === 0 && <NewExceptions pair={pair} answer={exceptions} name={name} allowed={events} base={base} link={search.link} />}
          </>
        )}
      {ray && <EventDialog account={account} script={script} ray={ray} onClose={() => search.set({ ray: undefined }, "replace")} />}
    </>
  );
}

/** The two versions of the address, or the likely ones, which the address then names. */
function usePair(traffic: ComparedProps["traffic"], versions: Map<string, VersionFacts>): Pair | undefined {
  const search = useSearch();
  const baseline = search.get("baseline");
  const candidate = search.get("candidate");
  const likely = likelyPair(traffic.deployments, versions);
  const pair = choose(baseline, candidate, likely);
  const named = baseline !== undefined && candidate !== undefined;
  useEffect(() => {
    if (!named && pair) search.set({ ...pair }, "replace");
  }, [named, pair?.baseline, pair?.candidate]);
  return pair;
}

/** Completes what an address names with the likely pair. */
function choose(baseline: string | undefined, candidate: string | undefined, likely: Pair | undefined): Pair | undefined {
  const other = (than: string): string | undefined => (likely?.baseline === than ? likely.candidate : likely?.baseline);
  const b = baseline ?? (candidate === undefined ? likely?.baseline : other(candidate));
  const c = candidate ?? (b === undefined ? undefined : other(b));
  return b !== undefined && c !== undefined && b !== c ? { baseline: b, candidate: c } : undefined;
}
