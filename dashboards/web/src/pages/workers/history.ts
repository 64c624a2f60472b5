// What the history of deployments tells: which split came before, and where back leads.
import type { Schemas } from "../../api/client";
import { full, shareOf, thousandths, type Split } from "../../lib/split";

export type Deployment = Schemas["Deployment"];
export type Decision = Schemas["Decision"];

export interface Entry {
  deployment: Deployment;
  /** Undefined for the oldest one that is listed. */
  before: Deployment | undefined;
  /** The decision that made it, if a policy did. */
  decision: Decision | undefined;
  serving: boolean;
}

/** `deployments` is newest first: the first one serves. */
export function entries(deployments: readonly Deployment[], decisions: readonly Decision[]): Entry[] {
  const made = new Map(decisions.filter((d) => d.to_deployment).map((d) => [d.to_deployment!, d]));
  return deployments.map((deployment, i) => ({
    deployment, before: deployments[i + 1], decision: made.get(deployment.id), serving: i === 0,
  }));
}

/** The version that has all traffic, if one has. */
export function alone(splits: readonly Split[]): string | undefined {
  return splits.find((s) => thousandths(s.percentage) === full)?.version_id;
}

/**
 * The version that a rollback leads to: of a split the one that had all traffic last, else the
 * one that had all traffic before this one did. Undefined where there is no such version.
 */
export function former(deployments: readonly Deployment[]): string | undefined {
  const [current, ...older] = deployments;
  if (!current) return undefined;
  const now = alone(current.versions);
  for (const d of older) {
    const then = alone(d.versions);
    if (then === undefined || then === now) continue;
    if (now !== undefined || shareOf(current.versions, then) !== undefined) return then;
  }
  return undefined;
}

/**
 * The version of a split that is on its way to all traffic: the other one than a rollback
 * leads to, else the one that was uploaded last.
 */
export function candidate(splits: readonly Split[], back: string | undefined, number: (id: string) => number): string | undefined {
  if (alone(splits) !== undefined && splits.length < 2) return undefined;
  const others = splits.filter((s) => s.version_id !== back);
  return others.map((s) => s.version_id).sort((a, b) => number(b) - number(a))[0];
}

/**
 * Versions that had traffic and gave it back to older ones, as after a rollback by a policy or a
 * person. Nobody means these next.
 */
export function takenBack(deployments: readonly Deployment[], number: (id: string) => number): Set<string> {
  const [current, ...older] = deployments.map((d) => d.versions.filter((s) => s.percentage > 0).map((s) => s.version_id));
  if (!current) return new Set();
  const newest = Math.max(...current.map(number));
  return new Set(older.flat().filter((id) => !current.includes(id) && number(id) > newest));
}

/**
 * The version that is promoted next: the newest that has not all traffic and was not taken back,
 * where it is not older than all that serve; else what serves.
 */
export function next(deployments: readonly Deployment[], uploaded: readonly { id: string; number: number }[], number: (id: string) => number): string | undefined {
  const serving = (deployments[0]?.versions ?? []).filter((s) => s.percentage > 0);
  const least = Math.max(...serving.map((s) => number(s.version_id)));
  const back = takenBack(deployments, number);
  const onward = uploaded.find((v) => v.number >= least && shareOf(serving, v.id) !== full && !back.has(v.id));
  return onward?.id ?? serving.toSorted((a, b) => b.percentage - a.percentage)[0]?.version_id;
}

const triggers: Record<string, string> = {
  deployment: "deployed", upload: "uploaded and deployed", rollback: "rolled back by the policy", ramp: "step of a ramp", secret: "secret changed", version_upload: "version uploaded",
};

/** What caused a deployment, in words. */
export function cause(d: Deployment): string {
  const by = d.annotations["workers/triggered_by"] ?? "";
  return triggers[by] ?? by;
}

/** The program that deployed, as it is told of in a sentence. */
export function sourceName(source: string): string {
  return source === "api" ? "the API" : source;
}

/** Who deployed: an address, or the program that did. */
export function author(d: Pick<Deployment, "author_email" | "source">): string {
  return d.author_email || d.source;
}
