// What this area asks of the API.
import { ApiError, call, get, getPage, path, refuse, send, scriptPath, type Page, type Schemas } from "../../api/client";
import { tagOf } from "../../lib/versions";
import type { Settings } from "./limits";

export type Policy = Schemas["Policy"];
export type Revision = Schemas["PolicyRevision"];
export type Ramp = Schemas["Ramp"];
export type Decision = Schemas["Decision"];
export type WholeDecision = Schemas["WholeDecision"];
export type Deployment = Schemas["Deployment"];
export type Notification = Schemas["Notification"];
export type NotifyResult = Schemas["NotifyResult"];
export type LiveEvidence = Schemas["LiveEvidence"];

/** Whose policy a page is about: a script's, or without one the account's default. */
export interface Owner {
  account: string;
  script: string | undefined;
}

export const policyPath = ({ account, script }: Owner): string =>
  script === undefined ? path("accounts", account, "workers", "rollback-policy") : scriptPath(account, script, "rollback-policy");

/** The policy that is followed, null if there is none, and the tag that a change of it names. */
export interface Held {
  policy: Policy | null;
  etag: string;
}

export async function readPolicy(owner: Owner, signal?: AbortSignal): Promise<Held> {
  const response = await send("GET", policyPath(owner), signal ? { signal } : {});
  if (response.ok) return { policy: ((await response.json()) as { result: Policy }).result, etag: response.headers.get("ETag") ?? "*" };
  try {
    return await refuse(response);
  } catch (error) {
    const missing = await noPolicy(owner, error, signal);
    if (missing) return { policy: null, etag: '"0"' };
    throw error;
  }
}

/** Not found may be the script, too: only a script that is there can be without a policy. */
async function noPolicy(owner: Owner, error: unknown, signal?: AbortSignal): Promise<boolean> {
  if (!(error instanceof ApiError) || error.status !== 404) return false;
  await get(`${policyPath(owner)}/revisions`, signal ? { signal } : {});
  return true;
}

export const savePolicy = (owner: Owner, policy: Settings, etag: string): Promise<Policy> =>
  call("PUT", policyPath(owner), { body: policy, headers: { "If-Match": etag } });

export const deletePolicy = (owner: Owner, etag: string): Promise<null> =>
  call("DELETE", policyPath(owner), { headers: { "If-Match": etag } });

export const readRevisions = (owner: Owner, signal: AbortSignal): Promise<Revision[]> => get(`${policyPath(owner)}/revisions`, { signal });

export const readEvidence = (account: string, script: string, signal: AbortSignal): Promise<LiveEvidence> =>
  get(scriptPath(account, script, "rollback-policy", "evidence"), { signal });

/** The newest ramp, null if there never was one. */
export async function readRamp(account: string, script: string, signal: AbortSignal): Promise<Ramp | null> {
  try {
    return await get<Ramp>(scriptPath(account, script, "rollback-policy", "ramp"), { signal });
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

export type RampAction = "pause" | "resume" | "skip" | "abort";

/** Acts on the ramp as it was read: at another step by now, the answer is a conflict. */
export const controlRamp = (account: string, script: string, action: RampAction, deployment: string): Promise<Ramp> =>
  call("POST", scriptPath(account, script, "rollback-policy", "ramp"), { body: { action, deployment_id: deployment } });

export async function readDeployments(account: string, script: string, signal: AbortSignal): Promise<Deployment[]> {
  return (await get<{ deployments: Deployment[] }>(scriptPath(account, script, "deployments"), { signal })).deployments;
}

export const readDecisions = (account: string, script: string, page: number, signal: AbortSignal): Promise<Page<Decision>> =>
  getPage(scriptPath(account, script, "rollback-decisions"), { query: { page, per_page: 25 }, signal });

export const readDecision = (account: string, script: string, id: string, signal: AbortSignal): Promise<WholeDecision> =>
  get(scriptPath(account, script, "rollback-decisions", id), { signal });

export const readNotifications = (account: string, script: string, signal: AbortSignal): Promise<Notification[]> =>
  get(scriptPath(account, script, "rollback-notifications"), { signal });

export const testNotify = (account: string, script: string): Promise<NotifyResult[]> =>
  call("POST", scriptPath(account, script, "rollback-policy", "notify-test"));

/** Tags of the versions that have one, by id. */
export async function readTags(account: string, script: string, signal: AbortSignal): Promise<Map<string, string>> {
  const result = await get<{ items: Schemas["Version"][] }>(scriptPath(account, script, "versions"), { query: { per_page: 100 }, signal });
  return new Map(result.items.flatMap((v) => {
    const tag = tagOf(v);
    return tag ? [[v.id, tag] as const] : [];
  }));
}
