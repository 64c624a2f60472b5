// One matrix for each two scripts that talk: which versions met, and which fail.
import { useId } from "preact/hooks";
import { get, path, type Schemas } from "../../api/client";
import { formatCount, formatRate } from "../../lib/format";
import { useQuery, type Answer } from "../../lib/query";
import { rangeQuery, type RangeState } from "../../lib/range";
import { scriptPage } from "../../lib/url";
import { Badge, VersionName } from "../../ui/basics";
import { edgesOf, isSkewed, pairAt, worstOf, type Called, type Edge } from "./matrix";

export type Calls = Schemas["Calls"];

const every = 10_000;
const limit = 1000;

export function useCalls(account: string, range: RangeState, of: { caller?: string; callee?: string }): Answer<Calls> {
  const key = `calls ${account} ${range.key} ${JSON.stringify(of)}`;
  return useQuery(key, (signal) => get<Calls>(path("accounts", account, "workers", "calls"), { query: { ...rangeQuery(range.resolve()), ...of, limit }, signal }),
    { every: range.resolve().last === undefined ? undefined : every });
}

export function Edges({ account, calls }: { account: string; calls: Calls }) {
  return (
    <>
      {calls.total_pairs > calls.pairs.length && <p class="small">The busiest {formatCount(calls.pairs.length)} of {formatCount(calls.total_pairs)} pairs of versions. A shorter time shows fewer.</p>}
      {edgesOf(calls.pairs).map((edge) => <EdgePanel key={`${edge.caller ?? ""} ${edge.callee}`} account={account} edge={edge} />)}
    </>
  );
}

function EdgePanel({ account, edge }: { account: string; edge: Edge }) {
  const title = useId();
  const worst = worstOf(edge);
  return (
    <section class="panel" aria-labelledby={title}>
      <div class="row spread">
        <h2 id={title}>
          {edge.caller === undefined ? "Callers by RPC" : <a href={scriptPage(account, edge.caller, "calls")}>{edge.caller}</a>} <span aria-hidden="true">→</span><span class="visually-hidden">calls</span> <a href={scriptPage(account, edge.callee, "calls")}>{edge.callee}</a>
        </h2>
        {isSkewed(edge) ? <Badge tone="accent">{edge.pairs.length} pairs of versions</Badge> : <Badge>One pair of versions</Badge>}
      </div>
      <div class="stack">
        <p>
          {formatCount(edge.requests)} {edge.requests === 1 ? "call" : "calls"}, of which {formatCount(edge.failures)} failed ({formatRate(edge.failures / edge.requests)}).
          {worst && <> Most often fails <Name version={worst.caller} /> calling <Name version={worst.callee} />: {formatRate(worst.failure_rate)} of {formatCount(worst.requests)}.</>}
          {edge.caller === undefined && " The runtime does not tell who calls by RPC, so only the callee’s version is known."}
        </p>
        <Matrix account={account} edge={edge} worst={worst} />
      </div>
    </section>
  );
}

function Name({ version }: { version: Called | undefined }) {
  return version ? <VersionName id={version.version_id} tag={version.tag} /> : <>an unknown version</>;
}

function Matrix({ account, edge, worst }: { account: string; edge: Edge; worst: ReturnType<typeof worstOf> }) {
  const caption = useId();
  const linked = (v: Called) => <VersionName id={v.version_id} tag={v.tag} href={scriptPage(account, v.script, "versions", v.version_id)} />;
  return (
    <div class="table-box" role="region" aria-labelledby={caption} tabIndex={0}>
      <table class="matrix">
        <caption class="visually-hidden" id={caption}>Calls of {edge.callee} by {edge.caller ?? "unknown callers"}, by versions of both</caption>
        <thead>
          <tr>
            <th scope="col">{edge.caller ?? "Caller"} ↓ calls {edge.callee} →</th>
            {edge.callees.map((callee) => <th key={callee.version_id} scope="col" class="number">{linked(callee)}</th>)}
          </tr>
        </thead>
        <tbody>
          {edge.callers.map((caller) => (
            <tr key={caller?.version_id ?? ""}>
              <th scope="row">{caller ? linked(caller) : "Unknown (RPC)"}</th>
              {edge.callees.map((callee) => {
                const pair = pairAt(edge, caller, callee);
                return (
                  <td key={callee.version_id} class={`number ${pair && pair.failures > 0 ? "fails" : ""}`}>
                    {pair ? <Met pair={pair} worst={pair === worst} /> : <span class="quiet">did not meet</span>}
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Met({ pair, worst }: { pair: Schemas["CallPair"]; worst: boolean }) {
  return (
    <>
      <strong>{formatRate(pair.failure_rate)}</strong> failed {worst && <Badge tone="bad">most</Badge>}
      <br /><span class="small quiet">{formatCount(pair.failures)} of {formatCount(pair.requests)}</span>
    </>
  );
}
