// Requests by version over time, with deployments and decisions as marks.
import { useMemo } from "preact/hooks";
import type { Schemas } from "../../api/client";
import { serverNow } from "../../lib/clock";
import { marksOf } from "../../lib/marks";
import type { RangeState } from "../../lib/range";
import { Loading } from "../../ui/basics";
import { TimeChart, type Series } from "../../ui/chart";
import { RangePicker } from "../../ui/range";
import { align, perSecond, type Lines } from "../compare/series";
import type { ScriptState } from "./data";
import { perSecondText } from "./rows";
import type { VersionNames } from "./versions";

const unknownColor = 7; // of versions that are not listed any more

export function RequestsPanel(props: { state: ScriptState; metrics: Schemas["Metrics"] | undefined; loading: boolean; range: RangeState; compare: string }) {
  const { state, metrics, range } = props;
  // New lists are drawn anew, so they are made when there is something new.
  // A range that follows the clock ends when the server was asked.
  const lines = useMemo(() => metrics && align(metrics, range.resolve().last === undefined ? serverNow() : new Date(metrics.until)), [metrics]);
  const series = useMemo(() => lines && seriesOf(lines, state.names), [lines, state.names]);
  const marks = useMemo(() => marksOf(state.deployments, state.decisions, state.names.name, state.names.told), [state]);
  return (
    <section class="panel stack" aria-labelledby="requests">
      <div class="row spread"><h2 id="requests">Requests by version</h2><RangePicker range={range} /></div>
      {lines && series && series.length > 0
        ? <TimeChart label="Requests a second by version" times={lines.times} series={series} marks={marks} step={lines.step} range={lines.range} format={perSecondText} onZoom={range.fix} />
        : metrics ? <p class="quiet">No requests in this time.</p> : props.loading && <Loading what="requests" />}
      <p class="small"><a href={props.compare}>Compare the versions</a>: failures, latency, exceptions and their difference.</p>
    </section>
  );
}

function seriesOf(lines: Lines, names: VersionNames): Series[] {
  const of = perSecond(lines.step);
  return [...lines.points].sort(([a], [b]) => names.number(a) - names.number(b))
    .map(([id, points]) => ({ name: names.name(id), color: names.series(id) ?? unknownColor, values: points.map(of) }));
}
