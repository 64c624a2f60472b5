// What the pages of this area ask for.
import { get, getPage, path, type Page, type Schemas } from "../../api/client";
import { useQuery, type Answer } from "../../lib/query";
import type { Version } from "./settings";

export type Deployment = Schemas["Deployment"];

export interface ScriptName {
  account: string;
  script: string;
}

/** The address of a page of the script: `pageOf(at, "versions", id)`. */
export function addressOf(at: ScriptName, ...segments: string[]): string {
  return ["", at.account, "workers", at.script, ...segments].map(encodeURIComponent).join("/");
}

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
  const url = path("accounts", at.account, "workers", "scripts", at.script, "deployments");
  return (await get<{ deployments: Deployment[] }>(url, signal ? { signal } : {})).deployments[0] ?? null;
}

export function useDeployment(at: ScriptName): Answer<Deployment | null> {
  return useQuery(`deployment ${at.account} ${at.script}`, (signal) => currentDeployment(at, signal), { every: 10_000 });
}

/** The share of traffic of a version; undefined for one that is not deployed. */
export function shareOf(deployment: Deployment | null | undefined, id: string): number | undefined {
  return deployment?.versions.find((v) => v.version_id === id)?.percentage;
}

/** The version that most requests go to. */
export function mainVersion(deployment: Deployment | null | undefined): string | undefined {
  const versions = deployment?.versions ?? [];
  return versions.reduce((most, v) => (v.percentage > (most?.percentage ?? -1) ? v : most), versions[0])?.version_id;
}

export function isWorker(version: Version): boolean {
  return version.origin === undefined;
}
