// A chart over time on uPlot: one line per series, marks for what happened, zoom by
// dragging. Made once and fed, so that live data neither flickers nor jumps.
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { useEffect, useRef } from "preact/hooks";
import { theme } from "./theme";
import { formatTime, zone, zoneName } from "../lib/time";

export interface Series {
  name: string;
  /** Index of the colour, from 0; the same version has the same one everywhere. */
  color: number;
  dashed?: boolean;
  /** One value per time; null where nothing is known. */
  values: (number | null)[];
}

export interface Mark {
  /** Seconds since 1970. */
  at: number;
  text: string;
  tone?: "bad" | "accent";
}

export interface TimeChartProps {
  /** What the chart shows, for those who cannot see it; a heading stands beside it. */
  label: string;
  /** Seconds since 1970, ascending. */
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
  /** A logarithmic axis between these two; left out: a linear one from 0. */
  log?: [least: number, most: number];
  /** A line across the chart, with what it means. */
  threshold?: { value: number; text: string };
}

export function TimeChart(props: TimeChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const latest = useRef(props);
  latest.current = props;
  // What a chart cannot be told later: a change makes a new one.
  const made = [theme.value, zone.value, props.sync, props.log?.join(), ...props.series.map((s) => `${s.name}/${s.color}/${s.dashed}`)].join("\n");

  useEffect(() => {
    const element = box.current!;
    const chart = new uPlot(options(element, latest), data(latest.current), element);
    plot.current = chart;
    const watch = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height: latest.current.height ?? 200 }));
    watch.observe(element);
    return () => {
      watch.disconnect();
      chart.destroy();
      plot.current = undefined;
    };
  }, [made]);

  useEffect(() => {
    plot.current?.setData(data(props));
  }, [props.times, props.series, props.marks]);

  return (
    <figure class="chart">
      <div ref={box} role="img" aria-label={describe(props)} />
      <ul class="chart-legend" aria-hidden="true">
        {props.series.map((s) => <li key={s.name} class="version"><span class={`swatch series-${(s.color % 8) + 1}`} />{s.name}</li>)}
      </ul>
    </figure>
  );
}

function data(props: TimeChartProps): uPlot.AlignedData {
  return [props.times, ...props.series.map((s) => s.values)];
}

/** The chart in a sentence: the newest known value of each line. */
export function describe(props: Pick<TimeChartProps, "label" | "series" | "format">): string {
  const newest = props.series.map((s) => {
    const value = s.values.findLast((v) => v !== null);
    return `${s.name}: ${value === undefined || value === null ? "nothing known" : `${props.format(value)} at the end`}`;
  });
  return [props.label, ...newest].join(". ");
}

function color(element: Element, name: string): string {
  // A canvas needs the colour that the theme's light-dark() stands for.
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  element.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

function options(element: HTMLElement, latest: { current: TimeChartProps }): uPlot.Options {
  const props = latest.current;
  const ink = color(element, "--quiet");
  const line = color(element, "--line");
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif" };
  return {
    width: Math.max(element.clientWidth, 100),
    height: props.height ?? 200,
    tzDate: (seconds) => (zone.value === "UTC" ? uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC") : new Date(seconds * 1000)),
    legend: { show: false },
    cursor: {
      drag: { x: props.onZoom !== undefined, y: false, setScale: false },
      ...(props.sync ? { sync: { key: props.sync } } : {}),
    },
    scales: {
      x: { range: (_, min, max) => latest.current.range ?? [min, max] },
      y: props.log ? { distr: 3, range: props.log } : { range: (_, __, max) => [0, max > 0 ? max * 1.05 : 1] },
    },
    axes: [axis, { ...axis, size: 64, ...(props.log ? { splits: powersBetween(props.log), filter: (_: uPlot, ticks: number[]) => ticks } : {}), values: (_, ticks) => ticks.map((v) => (v === null ? null : latest.current.format(v))) }],
    series: [{}, ...props.series.map((s) => ({
      label: s.name, stroke: color(element, `--series-${(s.color % 8) + 1}`), width: 1.5, spanGaps: false,
      points: { show: false }, ...(s.dashed ? { dash: [6, 4] } : {}),
    }))],
    hooks: {
      draw: [(u) => drawMarks(u, element, latest.current.marks ?? []), (u) => drawThreshold(u, element, latest.current.threshold)],
      setSelect: [(u) => zoom(u, latest.current.onZoom)],
      init: [(u) => u.over.append(tooltip())],
      setCursor: [(u) => showValues(u, element, latest.current)],
    },
  };
}

function drawMarks(u: uPlot, element: HTMLElement, marks: Mark[]): void {
  const { ctx, bbox } = u;
  ctx.save();
  for (const mark of marks) {
    const x = Math.round(u.valToPos(mark.at, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = color(element, mark.tone === "bad" ? "--bad" : "--accent");
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

/** Ticks of a logarithmic axis: powers of ten, of many only some. */
function powersBetween([least, most]: [number, number]): number[] {
  const first = Math.ceil(Math.log10(least) - 1e-9);
  const count = Math.floor(Math.log10(most) + 1e-9) - first + 1;
  const every = Math.max(1, Math.ceil(count / 6));
  return Array.from({ length: Math.max(Math.ceil(count / every), 0) }, (_, i) => 10 ** (first + i * every));
}

function drawThreshold(u: uPlot, element: HTMLElement, threshold: TimeChartProps["threshold"]): void {
  if (!threshold) return;
  const { ctx, bbox } = u;
  const y = Math.round(u.valToPos(threshold.value, "y", true));
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = color(element, "--bad");
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.textAlign = "left";
  ctx.textBaseline = "bottom";
  ctx.lineJoin = "round"; // a halo, so that lines behind the text do not cross it
  ctx.lineWidth = 4 * devicePixelRatio;
  ctx.strokeStyle = color(element, "--panel");
  ctx.strokeText(threshold.text, bbox.left + 6 * devicePixelRatio, y - 3 * devicePixelRatio);
  ctx.fillText(threshold.text, bbox.left + 6 * devicePixelRatio, y - 3 * devicePixelRatio);
  ctx.restore();
}

function zoom(u: uPlot, onZoom: TimeChartProps["onZoom"]): void {
  const { left, width } = u.select;
  if (width < 4 || !onZoom) return; // a click, not a drag
  const since = u.posToVal(left, "x");
  const until = u.posToVal(left + width, "x");
  u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  onZoom(new Date(since * 1000), new Date(until * 1000));
}

function tooltip(): HTMLElement {
  const tip = document.createElement("div");
  tip.className = "chart-tip";
  tip.hidden = true;
  return tip;
}

/** Values under the cursor, and the mark that is nearest to it within six pixels. */
function showValues(u: uPlot, element: HTMLElement, props: TimeChartProps): void {
  const tip = element.querySelector<HTMLElement>(".chart-tip");
  const index = u.cursor.idx;
  const left = u.cursor.left ?? -1;
  if (!tip) return;
  if (index === null || index === undefined || left < 0) {
    tip.hidden = true;
    return;
  }
  const time = props.times[index];
  if (time === undefined) return;
  const rows = props.series.map((s) => {
    const value = s.values[index];
    return `${s.name}  ${value === null || value === undefined ? "–" : props.format(value)}`;
  });
  const mark = props.marks?.find((m) => Math.abs(u.valToPos(m.at, "x") - left) <= 6);
  tip.textContent = [`${formatTime(new Date(time * 1000))} ${zoneName()}`, ...rows, ...(mark ? [mark.text] : [])].join("\n");
  tip.hidden = false;
  const right = left > u.over.clientWidth / 2;
  tip.style.left = right ? "" : `${left + 12}px`;
  tip.style.right = right ? `${u.over.clientWidth - left + 12}px` : "";
}
