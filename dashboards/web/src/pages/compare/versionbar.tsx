// Which versions are held against each other, and which ones the charts show.
import { shortId } from "../../lib/format";
import { Button, SelectField } from "../../ui/basics";
import type { Pair, VersionFacts } from "./versions";

export function VersionBar(props: {
  versions: Map<string, VersionFacts>;
  seen: VersionFacts[];
  hidden: string[];
  pair: Pair | undefined;
  onHide: (ids: string[]) => void;
  onPair: (pair: Pair) => void;
}) {
  const { pair, hidden } = props;
  const all = [...props.versions.values()].sort((a, b) => b.number - a.number);
  const choices = (without: string | undefined) => all.filter((v) => v.id !== without).map((v) => [v.id, v.tag ? `${v.name} · ${shortId(v.id)}` : v.name] as const);
  return (
    <div class="version-bar">
      {pair && (
        <div class="row">
          <SelectField label="Baseline" value={pair.baseline} options={choices(pair.candidate)} onChange={(baseline) => props.onPair({ ...pair, baseline })} />
          <SelectField label="Candidate" value={pair.candidate} options={choices(pair.baseline)} onChange={(candidate) => props.onPair({ ...pair, candidate })} />
          <Button onClick={() => props.onPair({ baseline: pair.candidate, candidate: pair.baseline })} aria-label="Swap baseline and candidate">Swap</Button>
        </div>
      )}
      {props.seen.length > 0 && (
        <div class="version-toggles" role="group" aria-label="Versions that the charts show">
          {props.seen.map((v) => {
            const off = hidden.includes(shortId(v.id));
            return (
              <button key={v.id} type="button" class="version-toggle" aria-pressed={!off} title={v.id}
                onClick={() => props.onHide(off ? hidden.filter((id) => id !== shortId(v.id)) : [...hidden, shortId(v.id)])}>
                <span class={`swatch series-${(v.color % 8) + 1}`} aria-hidden="true" />
                {v.name}
                {v.id === pair?.baseline && <span class="quiet"> baseline</span>}
                {v.id === pair?.candidate && <span class="quiet"> candidate</span>}
              </button>
            );
          })}
        </div>
      )}
    </div>
  );
}
