// Evidence over time against what it takes, on a logarithmic axis.
import { useMemo } from "preact/hooks";
import { namer } from "../../lib/versions";
import { TimeChart, type Mark } from "../../ui/chart";
import { factor, linesOf, type Evidence } from "./evidence";

export function EvidenceChart(props: { label: string; evidence: Evidence[]; marks: Mark[]; range?: [number, number] }) {
  const drawn = useMemo(() => linesOf(props.evidence), [props.evidence]);
  const series = useMemo(() => (drawn?.lines ?? []).map((l, i) => ({ name: l.name, color: i, values: l.values })), [drawn]);
  if (!drawn || drawn.times.length < 2) return <p class="quiet">Evidence was written down at one moment only, so there is no line to draw. The table has its value.</p>;
  return (
    <TimeChart label={props.label} times={drawn.times} height={240} marks={props.marks}
      series={series}
      format={(v) => (v >= drawn.most && v > drawn.threshold * 3 ? `over ${factor(Math.log(drawn.most))}` : factor(Math.log(v)))}
      log={[drawn.least, drawn.most]} threshold={{ value: drawn.threshold, text: `acts at ${factor(Math.log(drawn.threshold))}` }}
      {...(props.range ? { range: props.range } : {})} />
  );
}

export const nameWith = namer;
