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

const triggers: Record<string, string> = {
  deployment: "deployed", upload: "uploaded and deployed", rollback: "rolled back by the policy", ramp: "step of a ramp", secret: "secret changed", version_upload: "version uploaded",
};

/** What caused a deployment, in words. */
export function cause(d: Deployment): string {
  const by = d.annotations["workers/triggered_by"] ?? "";
  return triggers[by] ?? by;
}

/** Who deployed: an address, or the program that did. */
export function author(d: Pick<Deployment, "author_email" | "source">): string {
  return d.author_email || d.source;
}
