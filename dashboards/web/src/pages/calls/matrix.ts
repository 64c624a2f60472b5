// Calls between two Workers as a matrix: versions of the caller by versions of the callee.
import type { Schemas } from "../../api/client";

export type Pair = Schemas["CallPair"];
export type Called = Schemas["CalledVersion"];

/** All calls from one script to another; without a caller, those of which nobody knows who made them. */
export interface Edge {
  caller: string | undefined;
  callee: string;
  requests: number;
  failures: number;
  /** undefined is an unknown caller. */
  callers: (Called | undefined)[];
  callees: Called[];
  pairs: Pair[];
}

/** Groups pairs by the scripts of both sides, the busiest first. */
export function edgesOf(pairs: Pair[]): Edge[] {
  const edges = new Map<string, Edge>();
  for (const pair of pairs) {
    const key = JSON.stringify([pair.caller?.script, pair.callee.script]);
    const edge = edges.get(key) ?? { caller: pair.caller?.script, callee: pair.callee.script, requests: 0, failures: 0, callers: [], callees: [], pairs: [] };
    edges.set(key, edge);
    edge.requests += pair.requests;
    edge.failures += pair.failures;
    edge.pairs.push(pair);
    if (!edge.callers.some((v) => v?.version_id === pair.caller?.version_id)) edge.callers.push(pair.caller);
    if (!edge.callees.some((v) => v.version_id === pair.callee.version_id)) edge.callees.push(pair.callee);
  }
  return [...edges.values()].sort((a, b) => b.requests - a.requests);
}

export function pairAt(edge: Edge, caller: Called | undefined, callee: Called): Pair | undefined {
  return edge.pairs.find((p) => p.caller?.version_id === caller?.version_id && p.callee.version_id === callee.version_id);
}

/** Whether several versions of one side met: version skew. */
export function isSkewed(edge: Edge): boolean {
  return edge.pairs.length > 1;
}

/** The pair that fails the most often, where there is another one that fails less. */
export function worstOf(edge: Edge): Pair | undefined {
  const worst = edge.pairs.reduce((a, b) => ((b.failure_rate ?? 0) > (a.failure_rate ?? 0) ? b : a));
  return edge.pairs.some((p) => (p.failure_rate ?? 0) < (worst.failure_rate ?? 0)) ? worst : undefined;
}
