// What these pages ask the API for.
import { useRef } from "preact/hooks";
import { get, getPage, ApiError, call, scriptPath, type Schemas } from "../../api/client";
import { serverNow } from "../../lib/clock";
import { useQuery, type Answer } from "../../lib/query";
import { rangeQuery, type Range, type RangeState } from "../../lib/range";
import type { Split } from "../../lib/split";
import { recentRate, recentSpan, type RecentRate } from "./rates";
import { versionNames, type VersionNames } from "./versions";

export type Deployment = Schemas["Deployment"];
export type Decision = Schemas["Decision"];
export type Ramp = Schemas["Ramp"];

/** Whether the API says that what was asked about does not exist. */
export function isMissing(error: unknown): boolean {
  return error instanceof ApiError && error.status === 404;
}

/** Undefined instead of the error that something does not exist. */
export async function orNothing<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

export interface ScriptState {
  /** Newest first: the first one serves. */
  deployments: Deployment[];
  versions: Schemas["Version"][];
  names: VersionNames;
  decisions: Decision[];
  ramp: Ramp | undefined;
}

/** A script's deployments with all that names and explains them, looked at again every so often. */
export function useScript(account: string, script: string): Answer<ScriptState> {
  // The deployment that was found to be no step of a ramp: it is not asked about with every look.
  const rampless = useRef<string | undefined>(undefined);
  return useQuery(`script ${account} ${script}`, async (signal) => {
    const [{ deployments }, { items }, { items: decisions }] = await Promise.all([
      get<{ deployments: Deployment[] }>(scriptPath(account, script, "deployments"), { signal }),
      get<{ items: Schemas["Version"][] }>(scriptPath(account, script, "versions"), { signal, query: { deployable: true } }),
      getPage<Decision>(scriptPath(account, script, "rollback-decisions"), { signal }),
    ]);
    // A ramp goes on while two versions share the traffic; else it is over, and nobody need ask.
    const [serving] = deployments;
    const asked = serving !== undefined && serving.versions.length > 1 && serving.id !== rampless.current;
    const ramp = asked ? await orNothing(get<Ramp>(scriptPath(account, script, "rollback-policy", "ramp"), { signal })) : undefined;
    if (asked && !ramp && isSettled(serving)) rampless.current = serving.id;
    return { deployments, versions: items, names: versionNames(items, deployments), decisions, ramp };
  }, { every: 5000 });
}

/** How often numbers of a range are worth asking for again; never where it stands still. */
export function refresh(range: Range): number | undefined {
  if (range.last === undefined) return undefined;
  return range.last <= 900 ? 5000 : range.last <= 3600 ? 10_000 : 60_000;
}

export function useMetrics(account: string, script: string, range: RangeState): Answer<Schemas["Metrics"]> {
  return useQuery(`metrics ${account} ${script} ${range.key}`,
    (signal) => get<Schemas["Metrics"]>(scriptPath(account, script, "metrics"), { signal, query: rangeQuery(range.resolve()) }),
    { every: refresh(range.resolve()) });
}

/** Whether a deployment has the ramp that it will have: one begins about a second after it. */
export function isSettled(d: Pick<Deployment, "created_on">): boolean {
  return serverNow().getTime() - Date.parse(d.created_on) > 30_000;
}

/** How many requests come at present, whatever time the page shows; undefined where nobody knows now. */
export function useRecentRate(account: string, script: string, deployments: readonly Deployment[]): RecentRate | undefined {
  const { data, error } = useQuery(`recent rate ${account} ${script}`, async (signal) => {
    const span = recentSpan(deployments, serverNow());
    if (!span) return undefined;
    const metrics = await get<Schemas["Metrics"]>(scriptPath(account, script, "metrics"), { signal, query: { since: span.since.toISOString(), until: span.until.toISOString() } });
    return recentRate(metrics, span);
  }, { every: 10_000 });
  return error === undefined ? data : undefined;
}

export interface NewDeployment {
  splits: Split[];
  message: string;
  /** The deployment that the person saw serve; undefined for a script without one. */
  replaces: string | undefined;
  /** Also across changed secrets. */
  force?: boolean;
}

/** Deploys, unless another deployment than the one that was seen serves by now. */
export function deploy(account: string, script: string, d: NewDeployment): Promise<Deployment> {
  return call<Deployment>("POST", scriptPath(account, script, "deployments"), {
    query: { if_serving: d.replaces ?? "none", force: d.force ? true : undefined },
    body: { strategy: "percentage", versions: d.splits, annotations: d.message ? { "workers/message": d.message } : {} },
  });
}

/** Whether someone deployed since the page was read. */
export function isOvertaken(error: unknown): boolean {
  return error instanceof ApiError && error.status === 409;
}

const codeSecretsChanged = 10220;

/** Whether the API refuses because the version has other secrets, and would do it when it is told that this is meant. */
export function isSecretsChanged(error: unknown): boolean {
  return error instanceof ApiError && error.messages.some((m) => m.code === codeSecretsChanged);
}
