// What uPlot is told: axes in the chosen zone, lines with gaps, marks, what the cursor shows.
import uPlot from "uplot";
import { tickStep, tickText, timeTicks } from "../lib/ticks";
import { zoneName } from "../lib/time";
import type { TimeChartProps } from "./chart";
import { timeText, valueText } from "./chartkeys";

/** The current properties of a chart that was made with earlier ones. */
interface Latest {
  current: TimeChartProps;
}

/** Width of the axis of values; flags of marks are laid over the rest. */
const axisWidth = 60;
const padding = 12;
const tickSpace = 84; // "12:00:30" and some air
const characterWidth = 7; // of digits at 12 px, at most

export function makePlot(element: HTMLElement, latest: Latest): uPlot {
  return new uPlot(options(element, latest), plotData(latest.current), element);
}

/** How many of a chart's CSS pixels its lines are drawn over; .chart-marks covers the same. */
export const plottedWidth = (width: number): number => width - axisWidth - padding;

export function plotData(props: TimeChartProps): uPlot.AlignedData {
  const middle = (props.step ?? 0) / 2;
  return [middle === 0 ? props.times : props.times.map((t) => t + middle), ...props.series.map((s) => s.values)];
}

/** The range of the axis of time, in seconds. */
export function extent(props: Pick<TimeChartProps, "range" | "times" | "step">): readonly [number, number] {
  return props.range ?? [props.times[0] ?? 0, (props.times.at(-1) ?? 0) + (props.step ?? 0)];
}

/** The colours of the theme: a canvas needs what light-dark() stands for. */
function palette(element: Element): (name: string) => string {
  const known = new Map<string, string>();
  return (name) => {
    let value = known.get(name);
    if (value === undefined) {
      const probe = document.createElement("span");
      probe.style.color = `var(${name})`;
      element.append(probe);
      value = getComputedStyle(probe).color;
      probe.remove();
      known.set(name, value);
    }
    return value;
  };
}

/** Values without a neighbour on either side: no line goes through them, so they are drawn as points. */
export function lonely(values: ArrayLike<number | null | undefined>): number[] {
  const alone: number[] = [];
  for (let i = 0; i < values.length; i++) {
    if (values[i] != null && values[i - 1] == null && values[i + 1] == null) alone.push(i);
  }
  return alone;
}

function options(element: HTMLElement, latest: Latest): uPlot.Options {
  const props = latest.current;
  const color = palette(element);
  const line = color("--line");
  const axis = { stroke: color("--quiet"), grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 5 }, font: "12px system-ui, sans-serif" };
  const most = (u: uPlot): number => Math.max(2, Math.floor((u.width - axisWidth) / tickSpace));
  return {
    width: Math.max(element.clientWidth, 100),
    height: props.height ?? 200,
    padding: [padding, padding, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      drag: { x: props.onZoom !== undefined, y: false, setScale: false },
      bind: { dblclick: () => null },
      points: { size: 7 },
      ...(props.sync ? { sync: { key: props.sync, scales: ["x", null], setSeries: false, filters: { pub: moves, sub: moves } } } : {}),
    },
    scales: {
      x: { range: () => [...extent(latest.current)] as [number, number] },
      y: props.log ? { distr: 3, range: props.log } : { range: (_, __, max) => [0, top(max, latest.current)] },
    },
    axes: [
      { ...axis, size: 28, splits: (u, _, min, max) => timeTicks(min, max, most(u), zoneName()),
        values: (u, ticks) => ticks.map((t) => whole(u, t, tickText(t, tickStep(u.scales["x"]!.max! - u.scales["x"]!.min!, most(u)), zoneName()))) },
      { ...axis, size: axisWidth, space: 32, ...(props.log ? { splits: powersBetween(props.log), filter: (_: uPlot, ticks: number[]) => ticks } : {}), values: (_, ticks) => ticks.map((v) => latest.current.format(v)) },
    ],
    series: [{}, ...props.series.map((s) => ({
      label: s.name, stroke: color(`--series-${(s.color % 8) + 1}`), width: 1.75, spanGaps: false,
      points: { show: true, size: 5, fill: color(`--series-${(s.color % 8) + 1}`), filter: (u: uPlot, i: number) => lonely(u.data[i]!) },
      ...(s.dashed ? { dash: [6, 4] } : {}),
    }))],
    hooks: {
      init: [(u) => u.over.append(tooltip())],
      draw: [(u) => drawMarks(u, latest.current.marks ?? [], color), (u) => drawThreshold(u, latest.current.threshold, color)],
      setSelect: [(u) => zoom(u, latest.current.onZoom)],
      setCursor: [(u) => showValues(u, element, latest.current)],
    },
  };
}

/** The text of a tick, unless the chart's edge would cut it off. */
function whole(u: uPlot, at: number, text: string): string | null {
  const half = (text.length * characterWidth) / 2;
  return axisWidth + u.valToPos(at, "x") + half <= u.width ? text : null;
}

/** Where a linear axis of values ends. max is null where there are none. */
function top(max: number | null, props: TimeChartProps): number {
  const highest = Math.max(max ?? 0, props.threshold?.value ?? 0);
  return Math.max(highest * 1.08, props.least ?? 0) || 1;
}

/** Charts that move together share the cursor, but not what is dragged. */
function moves(type: string): boolean {
  return type === "mousemove" || type === "mouseleave";
}

/** Ticks of a logarithmic axis: powers of ten, of many only some. */
export function powersBetween([least, most]: [number, number]): number[] {
  const first = Math.ceil(Math.log10(least) - 1e-9);
  const count = Math.floor(Math.log10(most) + 1e-9) - first + 1;
  const every = Math.max(1, Math.ceil(count / 6));
  return Array.from({ length: Math.max(Math.ceil(count / every), 0) }, (_, i) => 10 ** (first + i * every));
}

function drawThreshold(u: uPlot, threshold: TimeChartProps["threshold"], color: (name: string) => string): void {
  if (!threshold) return;
  const { ctx, bbox } = u;
  const y = Math.round(u.valToPos(threshold.value, "y", true));
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = color("--bad");
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
  ctx.strokeStyle = color("--panel");
  ctx.strokeText(threshold.text, bbox.left + 6 * devicePixelRatio, y - 3 * devicePixelRatio);
  ctx.fillText(threshold.text, bbox.left + 6 * devicePixelRatio, y - 3 * devicePixelRatio);
  ctx.restore();
}

function drawMarks(u: uPlot, marks: NonNullable<TimeChartProps["marks"]>, color: (name: string) => string): void {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
  for (const mark of marks) {
    const x = Math.round(u.valToPos(mark.at, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = color(mark.tone === "bad" ? "--bad" : "--accent");
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
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
  tip.ariaHidden = "true"; // the slider's value says the same
  tip.hidden = true;
  return tip;
}

/** Shows the values under the cursor, and the marks that are within six pixels of it. */
function showValues(u: uPlot, element: HTMLElement, props: TimeChartProps): void {
  const tip = u.over.querySelector<HTMLElement>(".chart-tip");
  const index = u.cursor.idx;
  const left = u.cursor.left ?? -1;
  if (!tip) return;
  if (index === null || index === undefined || left < 0 || props.times[index] === undefined) {
    tip.hidden = true;
    return;
  }
  const marks = props.marks?.filter((m) => Math.abs(u.valToPos(m.at, "x") - left) <= 6) ?? [];
  const rows = props.series.map((s) => {
    const value = s.values[index];
    return row(`swatch series-${(s.color % 8) + 1}${s.dashed ? " dashed" : ""}`, s.name, value === null || value === undefined ? "–" : props.format(value));
  });
  // Charts that move together need not all say when.
  const time = element.matches(":hover, :focus-visible") ? [text("strong", timeText(props, index, true))] : [];
  tip.replaceChildren(...time, ...rows.flat(), ...marks.map((m) => text("p", m.text)));
  tip.hidden = false;
  const width = u.over.clientWidth;
  const isLate = left > width / 2;
  tip.classList.toggle("left", isLate);
  tip.style.setProperty("--at", `${isLate ? width - left : left}px`);
  tip.style.setProperty("--room", `${isLate ? left + axisWidth / 2 : width - left}px`);
  if (element === document.activeElement) {
    element.ariaValueNow = String(index);
    element.ariaValueText = valueText(props, index);
  }
}

function text(tag: string, content: string, className = ""): HTMLElement {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = content;
  return element;
}

function row(swatch: string, name: string, value: string): HTMLElement[] {
  return [text("span", "", swatch), text("span", name), text("b", value)];
}
