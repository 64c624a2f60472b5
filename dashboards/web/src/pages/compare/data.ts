// What the compare page asks. One answer is of one range of time, whose ends all parts share.
import { useRef } from "preact/hooks";
import { get, getPage, scriptPath, type Schemas } from "../../api/client";
import { serverNow } from "../../lib/clock";
import { useQuery, type Answer } from "../../lib/query";
import { rangeQuery, type Range, type RangeState } from "../../lib/range";
import type { Pair } from "./versions";

export interface Traffic {
  /** When it was asked; by the server's clock where the range follows that. */
  at: Date;
  /** Whether it is of a time that ends now. */
  live: boolean;
  /** Names the range that was asked for. */
  range: string;
  metrics: Schemas["Metrics"];
  versions: Schemas["Version"][];
  deployments: Schemas["Deployment"][];
  decisions: Schemas["Decision"][];
}

/** Milliseconds between two questions while the range follows the clock. Exceptions are the dearest to count. */
const pollTraffic = 5000;
const pollExceptions = 20_000;

/** The newest data of one subject: kept while what is asked about it changes, so that nothing flickers. */
export function useKept<T>(answer: Answer<T>, subject: string): T | undefined {
  const kept = useRef<{ subject: string; data: T } | undefined>(undefined);
  if (answer.data !== undefined) kept.current = { subject, data: answer.data };
  return kept.current?.subject === subject ? kept.current.data : undefined;
}

/** Seconds of the shortest step that is drawn: in a shorter one a few requests make a rate of any height. It is one of the API's own steps. */
const leastStep = 15;
/** Seconds of the longest range for which the API would choose a shorter step. */
const shortRange = 300 * leastStep;

/** The step to ask for; undefined where the API chooses, who knows of which steps older times are kept. */
export function stepOf({ since, until }: Range, now: Date): string | undefined {
  const fresh = now.getTime() - since.getTime() <= 2 * shortRange * 1000;
  return fresh && until.getTime() - since.getTime() <= shortRange * 1000 ? `${leastStep}s` : undefined;
}

export function useTraffic(account: string, script: string, range: RangeState): Answer<Traffic> {
  const follows = range.resolve().last !== undefined;
  const ask = async (signal: AbortSignal): Promise<Traffic> => {
    const at = serverNow();
    const asked = range.resolve();
    const [metrics, versions, deployments, decisions] = await Promise.all([
      get<Schemas["Metrics"]>(scriptPath(account, script, "metrics"), { signal, query: { ...rangeQuery(asked), step: stepOf(asked, at) } }),
      get<{ items: Schemas["Version"][] }>(scriptPath(account, script, "versions"), { signal, query: { per_page: 100 } }),
      get<{ deployments: Schemas["Deployment"][] }>(scriptPath(account, script, "deployments"), { signal }),
      getPage<Schemas["Decision"]>(scriptPath(account, script, "rollback-decisions"), { signal, query: { per_page: 100 } }),
    ]);
    const live = asked.last !== undefined;
    return { at: live ? new Date(metrics.until) : at, live, range: range.key, metrics, versions: versions.items, deployments: deployments.deployments, decisions: decisions.items };
  };
  return useQuery(`compare ${account} ${script} ${range.key}`, ask, follows ? { every: pollTraffic } : {});
}

interface PairQuestion {
  account: string;
  script: string;
  traffic: Traffic;
  pair: Pair | undefined;
}

/** Asks about two versions, of the range that the newest traffic is of. */
function usePairQuery<T>(what: string, q: PairQuestion, every: number, enabled: boolean, ask: (pair: Pair, time: { since: string; until: string }, signal: AbortSignal) => Promise<T>): Answer<T> {
  const { pair, traffic } = q;
  const subject = `${what} ${q.account} ${q.script} ${pair?.baseline} ${pair?.candidate}`;
  const { since, until } = traffic.metrics;
  const options = { enabled: enabled && pair !== undefined, ...(traffic.live ? { every } : {}) };
  // Not named by its ends: a question that takes longer than a poll would never be answered.
  const key = `${subject} ${traffic.range}`;
  const answer = useQuery(key, (signal) => ask(pair!, { since, until }, signal), options);
  return { ...answer, data: useKept(answer, subject) };
}

export function useComparison(q: PairQuestion): Answer<Schemas["Comparison"]> {
  return usePairQuery("compare", q, pollTraffic, true, ({ baseline, candidate }, time, signal) =>
    get(scriptPath(q.account, q.script, "metrics", "compare"), { signal, query: { baseline, candidate, ...time } }));
}

/** Kinds of exceptions that the candidate threw and the baseline did not. */
export function useNewExceptions(q: PairQuestion, enabled: boolean): Answer<Schemas["Exceptions"]> {
  return usePairQuery("new exceptions", q, pollExceptions, enabled, ({ baseline, candidate }, time, signal) =>
    get(scriptPath(q.account, q.script, "exceptions"), { signal, query: { new_in: candidate, compared_to: baseline, ...time } }));
}
