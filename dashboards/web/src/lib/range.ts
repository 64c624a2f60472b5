// A range of time as an address has it: `last=3600` follows the clock, `since` and
// `until` (RFC 3339) stand still, as after a zoom.
import { serverNow } from "./clock";
import { useSearch } from "./url";

export interface Range {
  since: Date;
  until: Date;
  /** Seconds, where the range ends now and moves. */
  last: number | undefined;
}

export const rangeDefault = 3600;
/** A day less than the API's: what follows the clock begins by what is known of the server's, and ends by that itself. */
export const rangeMax = 30 * 24 * 3600;

export function parseRange(get: (name: string) => string | undefined, now: Date): Range {
  const since = new Date(get("since") ?? "");
  const until = new Date(get("until") ?? "");
  if (since.getTime() < until.getTime()) return { since, until, last: undefined };
  const asked = Number(get("last"));
  const last = Number.isInteger(asked) && asked > 0 && asked <= rangeMax ? asked : rangeDefault;
  return { since: new Date(now.getTime() - last * 1000), until: now, last };
}

/** The range as the API is asked for it. What follows the clock has no end, so that it ends when the server is asked. */
export function rangeQuery({ since, until, last }: Range): { since: string; until: string | undefined } {
  return { since: since.toISOString(), until: last === undefined ? until.toISOString() : undefined };
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
    resolve: () => parseRange(search.get, serverNow()),
    follow: (seconds) => search.set({ since: undefined, until: undefined, last: seconds === rangeDefault ? undefined : String(seconds) }),
    fix: (since, until) => search.set({ since: since.toISOString(), until: until.toISOString(), last: undefined }),
  };
}
