// What a list of events is narrowed to, as an address and the API name it.
import type { Query } from "../../api/client";

export const filterNames = ["version", "outcome", "status", "failed", "method", "decision", "text"] as const;

export type Filter = Partial<Record<(typeof filterNames)[number], string>>;

export function readFilter(get: (name: string) => string | undefined): Filter {
  const filter: Filter = {};
  for (const name of filterNames) {
    const value = get(name);
    if (value) filter[name] = value;
  }
  return filter;
}

export const asQuery = (filter: Filter): Query => ({ ...filter });

const statusPattern = /^(none|[1-9]xx|[1-9]\d\d(-[1-9]\d\d)?)$/;

/** Why a list of statuses is not one that the API takes, or undefined. */
export function statusProblem(text: string): string | undefined {
  const wrong = text.split(",").find((part) => !statusPattern.test(part.trim()));
  if (text === "" || wrong === undefined) return undefined;
  return `“${wrong.trim()}” is no status: write 404, 5xx, 400-404 or none, separated by commas.`;
}
