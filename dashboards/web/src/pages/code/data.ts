// What the pages of this area ask for.
import { get, getPage, path, scriptPath, type Page, type Schemas } from "../../api/client";
import { useQuery, type Answer } from "../../lib/query";
import { scriptPage } from "../../lib/url";
import type { Version } from "./settings";

export type Deployment = Schemas["Deployment"];

export interface ScriptName {
  account: string;
  script: string;
}

export const addressOf = (at: ScriptName, ...rest: string[]): string => scriptPage(at.account, at.script, ...rest);

const versionsPath = (at: ScriptName, ...more: string[]): string => path("accounts", at.account, "workers", "workers", at.script, "versions", ...more);

/** Versions, newest first. */
export function listVersions(at: ScriptName, page: number, perPage: number, signal?: AbortSignal): Promise<Page<Version>> {
  return getPage<Version>(versionsPath(at), { query: { page, per_page: perPage }, ...(signal ? { signal } : {}) });
}

/** A version with the contents of its modules, if it has any. */
export function useVersion(at: ScriptName, id: string | undefined): Answer<Version> {
  return useQuery(`version ${at.account} ${at.script} ${id}`, (signal) => get<Version>(versionsPath(at, id!), { query: { include: "modules" }, signal }), { enabled: id !== undefined });
}

/** The deployment that serves; null where nothing is deployed. */
export async function currentDeployment(at: ScriptName, signal?: AbortSignal): Promise<Deployment | null> {
  const url = scriptPath(at.account, at.script, "deployments");
  return (await get<{ deployments: Deployment[] }>(url, signal ? { signal } : {})).deployments[0] ?? null;
}

export function useDeployment(at: ScriptName): Answer<Deployment | null> {
  return useQuery(`deployment ${at.account} ${at.script}`, (signal) => currentDeployment(at, signal), { every: 10_000 });
}

/** The version that most requests go to. */
export function mainVersion(deployment: Deployment | null | undefined): string | undefined {
  const versions = deployment?.versions ?? [];
  return versions.reduce((most, v) => (v.percentage > (most?.percentage ?? -1) ? v : most), versions[0])?.version_id;
}

export function isWorker(version: Version): boolean {
  return version.origin === undefined;
}
