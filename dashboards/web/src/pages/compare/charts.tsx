// The charts of the compare page: one line per version, one cursor for all.
import { useMemo } from "preact/hooks";
import { formatCompact, formatMillis, formatRate } from "../../lib/format";
import { useSearch } from "../../lib/url";
import { Segments } from "../../ui/basics";
import { TimeChart, type Mark, type Series } from "../../ui/chart";
import { exceptionsPerMinute, failureRate, perSecond, statusShare, values, wallTime, type Lines, type Point, type StatusClass } from "./series";
import type { VersionFacts } from "./versions";

const classes = [["2xx", "2xx"], ["3xx", "3xx"], ["4xx", "4xx"], ["5xx", "5xx"], ["none", "None"]] as const;

interface Plot {
  title: string;
  of: (point: Point | undefined) => number | null;
  format: (value: number) => string;
  least: number;
}

/** What a chart's axis reaches at least. */
const leastShare = 0.01;

export function Charts(props: { lines: Lines; versions: VersionFacts[]; marks: Mark[]; onZoom: (since: Date, until: Date) => void }) {
  const search = useSearch();
  const asked = search.get("status");
  const status: StatusClass = classes.find(([c]) => c === asked)?.[0] ?? "5xx";
  const step = props.lines.step;
  const plots = useMemo((): Plot[] => [
    { title: "Requests per second", of: perSecond(step), format: formatCompact, least: 0 },
    { title: "Failure rate", of: failureRate, format: formatRate, least: leastShare },
    { title: "Exceptions per minute", of: exceptionsPerMinute(step), format: formatCompact, least: 1 },
    { title: status === "none" ? "Without a response, share of requests" : `Status ${status}, share of requests`, of: statusShare(status), format: formatRate, least: leastShare },
    { title: "Wall time p50", of: wallTime("p50"), format: formatMillis, least: 0 },
    { title: "Wall time p90", of: wallTime("p90"), format: formatMillis, least: 0 },
    { title: "Wall time p99", of: wallTime("p99"), format: formatMillis, least: 0 },
  ], [step, status]);
  return (
    <div class="chart-grid">
      {plots.map((plot, i) => (
        <section key={i} class="panel">
          <div class="row spread">
            <h2>{plot.title}</h2>
            {i === 3 && <Segments label="Status class" options={classes} value={status} onChange={(c) => search.set({ status: c === "5xx" ? undefined : c }, "replace")} />}
          </div>
          <VersionChart plot={plot} {...props} first={i === 0} />
        </section>
      ))}
    </div>
  );
}

function VersionChart(props: { plot: Plot; lines: Lines; versions: VersionFacts[]; marks: Mark[]; first: boolean; onZoom: (since: Date, until: Date) => void }) {
  const { plot, lines, versions } = props;
  const shown = versions.map((v) => v.id).join();
  const series = useMemo(() => lined(versions).map(([v, dashed]): Series => ({ name: v.name, color: v.color, dashed, values: values(lines, v, plot.of) })), [lines, plot, shown]);
  return (
    <TimeChart label={plot.title} times={lines.times} step={lines.step} range={lines.range} series={series} format={plot.format} least={plot.least}
      marks={props.marks} quietMarks={!props.first} legend={false} sync="compare" height={props.first ? 200 : 170} onZoom={props.onZoom} />
  );
}

/** Versions with whether their line is dashed: where another one of the same colour is in the chart. */
function lined(versions: VersionFacts[]): [VersionFacts, boolean][] {
  const used = new Set<number>();
  return versions.map((v) => {
    const dashed = used.has(v.color % 8);
    used.add(v.color % 8);
    return [v, dashed];
  });
}
