// A chart over time on uPlot: one line per series, marks for what happened, zoom by
// dragging or by keys. Made once and fed, so that live data neither flickers nor jumps.
import type uPlot from "uplot";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { formatTime, zone, zoneName } from "../lib/time";
import { Button } from "./basics";
import { cursorAt, describe, handleKey, hideCursor, valueText, type KeyState } from "./chartkeys";
import { groupMarks, type Mark } from "./chartmarks";
import { extent, makePlot, plotData, plottedWidth } from "./plot";
import { Table } from "./table";
import { theme } from "./theme";
import "../styles/chart.css";

export type { Mark } from "./chartmarks";

export interface Series {
  name: string;
  /** Index of the colour, from 0; the same version has the same one everywhere. */
  color: number;
  dashed?: boolean;
  /** One value per time; null where nothing is known. */
  values: (number | null)[];
}

export interface TimeChartProps {
  /** What the chart shows, for those who cannot see it; a heading stands beside it. */
  label: string;
  /** Seconds since 1970, ascending. Lists are compared by identity: a new one is drawn. */
  times: number[];
  series: Series[];
  format: (value: number) => string;
  marks?: Mark[];
  height?: number;
  /** Shared by charts whose cursors move together. */
  sync?: string;
  /** The range of the axis in seconds; left out: that of the times. */
  range?: [since: number, until: number];
  onZoom?: (since: Date, until: Date) => void;
  /** A value is that of so many seconds from its time on, and is drawn in the middle of them; left out: of the moment. */
  step?: number;
  /** What the axis reaches at least, so that a rate of nearly nothing does not look like a summit. */
  least?: number;
  /** A logarithmic axis between these two; left out: a linear one from 0. */
  log?: [least: number, most: number];
  /** A line across the chart, with what it means. */
  threshold?: { value: number; text: string };
  /** Marks are lines only: another chart beside this one has their texts. */
  quietMarks?: boolean;
  /** false: a legend for several charts stands elsewhere. */
  legend?: boolean;
}

export function TimeChart(props: TimeChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const keys = useRef<KeyState>({ anchor: undefined });
  const latest = useRef(props);
  latest.current = props;
  const [width, setWidth] = useState(0);
  // What a chart cannot be told later: a change makes a new one.
  const made = [theme.value, zone.value, props.sync, props.log?.join(), props.onZoom !== undefined, ...props.series.map((s) => `${s.name}/${s.color}/${s.dashed}`)].join("\n");

  useEffect(() => {
    const element = box.current!;
    const chart = makePlot(element, latest);
    plot.current = chart;
    keys.current.anchor = undefined;
    setWidth(chart.width);
    const watch = new ResizeObserver(() => {
      if (element.clientWidth === 0 || element.clientWidth === chart.width) return;
      chart.setSize({ width: element.clientWidth, height: chart.height });
      setWidth(element.clientWidth);
    });
    watch.observe(element);
    return () => {
      watch.disconnect();
      chart.destroy();
      plot.current = undefined;
    };
  }, [made, props.height]);

  useEffect(() => {
    plot.current?.setData(plotData(props));
  }, [props.times, props.series, props.marks, props.range?.[0], props.range?.[1], props.format, props.threshold?.value]);

  const help = useId();
  const count = props.times.length;
  const zooms = props.onZoom ? " Shift with an arrow selects, Enter shows what is selected, plus and minus zoom." : "";
  return (
    <figure class="chart">
      <div class="chart-area">
        <div ref={box} class="chart-plot" tabIndex={0} role="slider" aria-label={describe(props)} aria-describedby={help}
          aria-valuemin={0} aria-valuemax={Math.max(0, count - 1)} aria-valuenow={Math.max(0, count - 1)}
          aria-valuetext={count > 0 ? valueText(props, count - 1) : "No values"}
          onKeyDown={(e) => { if (plot.current && handleKey(plot.current, e, latest.current, keys.current)) e.preventDefault(); }}
          onFocus={() => { if (plot.current && box.current?.matches(":focus-visible")) cursorAt(plot.current, count - 1); }}
          onBlur={() => { if (plot.current) hideCursor(plot.current); }} />
        {!props.quietMarks && width > 0 && <Marks {...props} width={plottedWidth(width)} />}
      </div>
      <p class="visually-hidden" id={help}>Arrow keys read the values.{zooms}</p>
      <figcaption class="chart-foot">
        {props.legend !== false && (
          <ul class="chart-legend">
            {props.series.map((s) => <li key={s.name} class="version"><span class={`swatch series-${(s.color % 8) + 1} ${s.dashed ? "dashed" : ""}`} aria-hidden="true" />{s.name}</li>)}
          </ul>
        )}
        <Values {...props} />
      </figcaption>
    </figure>
  );
}

/** Flags over the plot, each with the text of what happened then, for pointer and keyboard. */
function Marks(props: TimeChartProps & { width: number }) {
  const [since, until] = extent(props);
  if (!(until > since)) return null;
  return (
    <ul class="chart-marks" aria-label="What happened">
      {groupMarks(props.marks ?? [], [since, until], props.width).map((group) => {
        const share = (group.at - since) / (until - since);
        const when = `${formatTime(new Date(group.at * 1000), zone.value)} ${zoneName()}`;
        return (
          <li key={group.at} style={{ insetInlineStart: `${share * 100}%` }} class={share > 0.5 ? "late" : undefined}>
            <button type="button" class={`chart-flag ${group.tone ?? ""}`} aria-label={`${when}: ${group.texts.join("; ")}`}>{group.glyph}</button>
            <div class="chart-flag-text" aria-hidden="true"><strong>{when}</strong>{group.texts.map((t) => <p key={t}>{t}</p>)}</div>
          </li>
        );
      })}
    </ul>
  );
}

/** The same numbers as a table, for those who read them better so. */
function Values(props: TimeChartProps) {
  const [open, setOpen] = useState(false);
  const rows = open ? props.times.map((_, i) => i).reverse() : [];
  return (
    <>
      <Button look="plain" compact aria-expanded={open} onClick={() => setOpen(!open)} aria-label={`${open ? "Hide" : "Show"} table of ${props.label}`}>{open ? "Hide table" : "Table"}</Button>
      {open && (
        <div class="chart-values">
          <Table caption={`${props.label}, newest first, times in ${zoneName()}`} rows={rows} rowKey={(i) => String(props.times[i])} columns={[
            { name: "Time", heading: true, cell: (i) => <span class="nowrap">{formatTime(new Date(props.times[i]! * 1000), zone.value)}</span> },
            ...props.series.map((s) => ({ name: s.name, number: true, cell: (i: number) => shown(s.values[i], props.format) })),
          ]} />
        </div>
      )}
    </>
  );
}

function shown(value: number | null | undefined, format: (value: number) => string): string {
  return value === null || value === undefined ? "–" : format(value);
}
