// Where an axis of time has its ticks, and what stands at them, in any zone. Ticks lie at
// round times of that zone's clocks, also on the days on which the clocks are changed.

const steps = [1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];

const clocks = new Map<string, Intl.DateTimeFormat>();

function clock(zone: string): Intl.DateTimeFormat {
  let known = clocks.get(zone);
  if (!known) {
    known = new Intl.DateTimeFormat("en-GB", {
      timeZone: zone, hourCycle: "h23",
      year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
    });
    clocks.set(zone, known);
  }
  return known;
}

/** What clocks of a zone show at a moment: year, month (from 1), day, hour, minute and second. */
export function wallClock(at: Date, zone: string): [number, number, number, number, number, number] {
  const parts = clock(zone).formatToParts(at);
  const get = (type: Intl.DateTimeFormatPartTypes): number => Number(parts.find((p) => p.type === type)?.value);
  return [get("year"), get("month"), get("day"), get("hour"), get("minute"), get("second")];
}

/** Seconds that clocks of a zone are ahead of UTC at a moment, given in seconds since 1970. */
export function zoneOffset(at: number, zone: string): number {
  const whole = Math.floor(at);
  const [year, month, day, hour, minute, second] = wallClock(new Date(whole * 1000), zone);
  return Date.UTC(year, month - 1, day, hour, minute, second) / 1000 - whole;
}

/** The nearest moment at which the zone's clocks show a multiple of step. */
function rounded(at: number, step: number, zone: string): number {
  for (let i = 0; i < 2; i++) { // again where the clocks were changed in between
    const past = (((at + zoneOffset(at, zone)) % step) + step) % step;
    if (past === 0) break;
    at += past <= step / 2 ? -past : step - past;
  }
  return at;
}

/** The shortest usual step that divides a length of seconds into no more than so many parts. */
export function tickStep(seconds: number, most: number): number {
  return steps.find((s) => seconds / s <= most) ?? steps.at(-1)! * Math.ceil(seconds / steps.at(-1)! / most);
}

/** Ticks from since to until, in seconds since 1970. */
export function timeTicks(since: number, until: number, most: number, zone: string): number[] {
  const step = tickStep(until - since, Math.max(1, most));
  const ticks: number[] = [];
  for (let at = rounded(Math.floor(since), step, zone); at <= until; at = rounded(at + step, step, zone)) {
    if (at >= since && at > (ticks.at(-1) ?? -Infinity)) ticks.push(at);
  }
  return ticks;
}

/** What stands at a tick: the date where a day begins, else the time, as exact as the step asks for. */
export function tickText(at: number, step: number, zone: string): string {
  const date = new Date(at * 1000);
  const [, , day, hour, minute, second] = wallClock(date, zone);
  const two = (n: number): string => String(n).padStart(2, "0");
  if (step >= 86400 || (hour === 0 && minute === 0 && second === 0)) {
    return `${day} ${new Intl.DateTimeFormat("en", { timeZone: zone, month: "short" }).format(date)}`;
  }
  return step < 60 ? `${two(hour)}:${two(minute)}:${two(second)}` : `${two(hour)}:${two(minute)}`;
}
