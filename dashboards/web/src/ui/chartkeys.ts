// A chart without looking at it: in a sentence, and by keys, which read its values one by one, select a part, zoom.
import type uPlot from "uplot";
import { serverNow } from "../lib/clock";
import { formatTime, zoneName } from "../lib/time";
import type { TimeChartProps } from "./chart";
import { extent } from "./plot";

export interface KeyState {
  /** The time at which a selection began: indexes move when live data come. */
  anchor: number | undefined;
}

/** Seconds: shorter than this, there is nothing more to see. */
const zoomLeast = 10;
const zoomMost = 31 * 24 * 3600; // the API's

/** The index that a key moves to among count values, or undefined for another key. */
export function moved(key: string, index: number, count: number, far: boolean): number | undefined {
  const by = far ? Math.max(1, Math.round(count / 10)) : 1;
  const to = { ArrowLeft: index - by, ArrowRight: index + by, PageUp: index - Math.max(1, Math.round(count / 10)),
    PageDown: index + Math.max(1, Math.round(count / 10)), Home: 0, End: count - 1 }[key];
  return to === undefined ? undefined : Math.min(Math.max(to, 0), count - 1);
}

/** A range of half (or twice) the length about a moment, which stays where it is; it ends at the latest at now. */
export function zoomed(range: readonly [number, number], about: number, factor: number, now: number): [number, number] {
  const [since, until] = range;
  const length = Math.min(Math.max((until - since) * factor, zoomLeast), zoomMost);
  const share = (about - since) / (until - since);
  const end = Math.min(about + (1 - share) * length, Math.max(now, until));
  return [end - length, end];
}

/** Puts the cursor on a value, in all charts that move together. */
export function cursorAt(u: uPlot, index: number): void {
  const x = u.data[0][index];
  if (x !== undefined) moveCursor(u, u.valToPos(x, "x"));
}

export function hideCursor(u: uPlot): void {
  moveCursor(u, -10);
}

function moveCursor(u: uPlot, left: number): void {
  // uPlot's types leave out the last parameter, which tells charts that move together.
  const set: (at: { left: number; top: number }, fireHook: boolean, publish: boolean) => void = u.setCursor;
  set({ left, top: left < 0 ? -10 : u.over.clientHeight / 3 }, true, true);
}

/** Does what a key asks for, and reports whether it was one of the chart's. */
export function handleKey(u: uPlot, event: KeyboardEvent, props: TimeChartProps, state: KeyState): boolean {
  const count = props.times.length;
  const index = Math.min(u.cursor.idx ?? count - 1, count - 1);
  if (event.altKey || event.metaKey || count === 0) return false;
  const to = moved(event.key, index, count, event.ctrlKey);
  if (to !== undefined) {
    state.anchor = event.shiftKey && props.onZoom ? (state.anchor ?? props.times[index]) : undefined;
    cursorAt(u, to);
    select(u, state.anchor, to);
    return true;
  }
  switch (event.key) {
    case "Escape":
      state.anchor = undefined;
      select(u, undefined, 0);
      return true;
    case "Enter":
      if (state.anchor === undefined || !props.onZoom) return false;
      zoomTo(props, between(props, state.anchor, props.times[index]!));
      state.anchor = undefined;
      select(u, undefined, 0);
      return true;
    case "+": case "=": case "-":
      if (!props.onZoom) return false;
      zoomTo(props, zoomed(extent(props), u.data[0][index]!, event.key === "-" ? 2 : 0.5, serverNow().getTime() / 1000));
      return true;
  }
  return false;
}

function zoomTo(props: TimeChartProps, [since, until]: readonly [number, number]): void {
  props.onZoom?.(new Date(since * 1000), new Date(until * 1000));
}

function between(props: TimeChartProps, a: number, b: number): [number, number] {
  const since = Math.min(a, b);
  return [since, Math.max(Math.max(a, b) + (props.step ?? 0), since + zoomLeast)];
}

function select(u: uPlot, anchor: number | undefined, index: number): void {
  const a = anchor === undefined ? 0 : u.valToPos(anchor, "x");
  const b = anchor === undefined ? 0 : u.valToPos(u.data[0][index]!, "x");
  u.setSelect({ left: Math.min(a, b), top: 0, width: Math.abs(a - b), height: anchor === undefined ? 0 : u.over.clientHeight }, false);
}

/** The moment of a value, or the time from its beginning to its end; a short text leaves out today's date. */
export function timeText(props: Pick<TimeChartProps, "times" | "step">, index: number, short = false): string {
  const time = props.times[index]!;
  const begin = formatTime(new Date(time * 1000));
  const day = begin.slice(0, 10);
  const text = short && formatTime(serverNow()).startsWith(day) ? begin.slice(11) : begin;
  if (props.step === undefined || props.step <= 1) return `${text} ${zoneName()}`;
  const end = formatTime(new Date((time + props.step) * 1000));
  return `${text} to ${end.startsWith(day) ? end.slice(11) : end} ${zoneName()}`;
}

/** All values of one time in a sentence. */
export function valueText(props: TimeChartProps, index: number): string {
  const values = props.series.map((s) => {
    const value = s.values[index];
    return `${s.name}: ${value === null || value === undefined ? "nothing known" : props.format(value)}`;
  });
  return [timeText(props, index), ...values].join(", ");
}

/** The chart in a sentence: the newest known value of each line, and whether that is of its end. */
export function describe(props: Pick<TimeChartProps, "label" | "series" | "format" | "threshold">): string {
  const newest = props.series.map((s) => {
    const last = s.values.findLastIndex((v) => v !== null);
    return `${s.name}: ${last < 0 ? "nothing known" : `${props.format(s.values[last]!)} ${last === s.values.length - 1 ? "at the end" : "at last, then nothing known"}`}`;
  });
  const limit = props.threshold ? [`${props.threshold.text}: ${props.format(props.threshold.value)}`] : [];
  return [props.label, ...newest, ...limit].join(". ");
}
