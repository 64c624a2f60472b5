// Times as people read them. The zone is the browser's or UTC, as the reader chose;
// every absolute time says which: beside it, at the head of its column or in its label, and in
// its tooltip.
import { signal, effect } from "@preact/signals";
import { serverNow } from "./clock";
import { wallClock } from "./ticks";

export type Zone = "local" | "UTC";

const stored = "tidegate.zone";
export const zone = signal<Zone>(read() === "UTC" ? "UTC" : "local");

function read(): string | null {
  try {
    return localStorage.getItem(stored);
  } catch {
    return null; // storage is off: the choice lasts for this page
  }
}

effect(() => {
  try {
    localStorage.setItem(stored, zone.value);
  } catch {
    // As above.
  }
});

const localZone = Intl.DateTimeFormat().resolvedOptions().timeZone;

/** The IANA name that the zone stands for. */
export function zoneName(z: Zone = zone.value): string {
  return z === "UTC" ? "UTC" : localZone;
}

/** "2026-11-27 15:04:05" in the chosen zone. */
export function formatTime(at: Date, z: Zone = zone.value): string {
  const [year, ...rest] = wallClock(at, zoneName(z));
  const [month, day, hour, minute, second] = rest.map((n) => String(n).padStart(2, "0"));
  return `${year}-${month}-${day} ${hour}:${minute}:${second}`;
}

const units: [limit: number, seconds: number, name: Intl.RelativeTimeFormatUnit][] = [
  [60, 1, "second"], [3600, 60, "minute"], [86400, 3600, "hour"], [Infinity, 86400, "day"],
];

/** "3 minutes ago", "in 2 hours", "now" within a second. */
export function formatAge(at: Date, now: Date): string {
  const seconds = (at.getTime() - now.getTime()) / 1000;
  const size = Math.abs(seconds);
  const [, divisor, name] = units.find(([limit]) => size < limit)!;
  return new Intl.RelativeTimeFormat("en", { numeric: "auto" }).format(Math.trunc(seconds / divisor), name);
}

/** "1 h 5 min", "12 s", "3 d 4 h": the two largest units of a length in seconds. */
export function formatDuration(seconds: number): string {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  const sizes: [number, string][] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const parts: string[] = [];
  let rest = Math.round(seconds);
  for (const [size, name] of sizes) {
    const n = Math.floor(rest / size);
    rest -= n * size;
    if (n > 0) parts.push(`${n} ${name}`);
    if (parts.length === 2) break;
  }
  return parts.join(" ");
}

/** The server's clock, for ages: ticks once a second while a page is looked at. */
export const now = signal(serverNow());
if (typeof document !== "undefined") { // unit tests have none
  setInterval(() => {
    if (document.visibilityState === "visible") now.value = serverNow();
  }, 1000);
}
