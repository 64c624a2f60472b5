// A range of time as an address has it: `last=3600` follows the clock, `since` and
// `until` (RFC 3339) stand still, as after a zoom.
import { useSearch } from "./url";

export interface Range {
  since: Date;
  until: Date;
  /** Seconds, where the range ends now and moves. */
  last: number | undefined;
}

export const rangeDefault = 3600;
export const rangeMax = 31 * 24 * 3600; // the API's

export function parseRange(get: (name: string) => string | undefined, now: Date): Range {
  const since = new Date(get("since") ?? "");
  const until = new Date(get("until") ?? "");
  if (since.getTime() < until.getTime()) return { since, until, last: undefined };
  const asked = Number(get("last"));
  const last = Number.isInteger(asked) && asked > 0 && asked <= rangeMax ? asked : rangeDefault;
  return { since: new Date(now.getTime() - last * 1000), until: now, last };
}

export interface RangeState {
  /** What names the range in the key of a query. */
  key: string;
  /** The range as of now. */
  resolve: () => Range;
  follow: (seconds: number) => void;
  fix: (since: Date, until: Date) => void;
}

export function useRange(): RangeState {
  const search = useSearch();
  const key = [search.get("since"), search.get("until"), search.get("last")].join(" ");
  return {
    key,
    resolve: () => parseRange(search.get, new Date()),
    follow: (seconds) => search.set({ since: undefined, until: undefined, last: seconds === rangeDefault ? undefined : String(seconds) }),
    fix: (since, until) => search.set({ since: since.toISOString(), until: until.toISOString(), last: undefined }),
  };
}
