// The calls of these pages.
import { call, path, refuse, send, type Schemas } from "../../api/client";
import { dataset, type Job, type JobBody } from "./draft";

export type JobState = Schemas["JobState"];
export type JobHealth = Schemas["JobHealth"];
export type Letter = Schemas["DeadLetter"];
export type Replay = Schemas["Replay"];
export type Preview = Schemas["Preview"];
export type Alerts = NonNullable<Schemas["LogpushAlerts"]>;

export const logpushPath = (account: string, ...rest: string[]): string => path("accounts", account, "logpush", ...rest);
export const jobPath = (account: string, id: string, ...rest: string[]): string => logpushPath(account, "jobs", id, ...rest);
export const datasetPath = (account: string, what: string): string => logpushPath(account, "datasets", dataset, ...what.split("/"));

export interface StoredJob {
  job: Job;
  /** Of its settings: an update with it fails when somebody else was faster. */
  etag: string | undefined;
}

export async function loadJob(account: string, id: string, signal?: AbortSignal): Promise<StoredJob> {
  const response = await send("GET", jobPath(account, id), signal ? { signal } : {});
  if (!response.ok) return refuse(response);
  const { result } = (await response.json()) as { result: Job };
  return { job: result, etag: response.headers.get("ETag") ?? undefined };
}

export function createJob(account: string, body: JobBody): Promise<Job> {
  return call<Job>("POST", logpushPath(account, "jobs"), { body });
}

export function updateJob(account: string, id: string, body: JobBody, etag?: string): Promise<Job> {
  return call<Job>("PUT", jobPath(account, id), { body, headers: etag ? { "If-Match": etag } : {} });
}

/** Minutes, or five of them, of a job's uploads. */
export interface HealthGroup {
  dimensions: { at: string; status: number; final: number };
  sum: { uploads: number; records: number };
}

const groupsMax = 10_000; // the API's

/** Of the job's uploads in a range, oldest first; `coarse` sums five minutes. */
export async function healthGroups(account: string, id: string, since: Date, until: Date, coarse: boolean, signal: AbortSignal): Promise<HealthGroup[]> {
  const time = coarse ? "datetimeFiveMinutes" : "datetimeMinute";
  const query = `query ($account: string!, $job: Int!, $since: Time!, $until: Time!, $limit: Int!) {
    viewer { accounts(filter: {accountTag: $account}) {
      logpushHealthAdaptiveGroups(filter: {jobId: $job, datetime_geq: $since, datetime_leq: $until}, limit: $limit, orderBy: [${time}_ASC]) {
        dimensions { at: ${time} status final } sum { uploads records }
      } } } }`;
  const seconds = (at: Date): string => at.toISOString().replace(/\.\d+Z$/, "Z");
  const variables = { account, job: Number(id), since: seconds(since), until: seconds(until), limit: groupsMax };
  const response = await send("POST", path("graphql"), { body: { query, variables }, signal });
  if (!response.ok) return refuse(response);
  const answer = (await response.json()) as { data: { viewer: { accounts: [{ logpushHealthAdaptiveGroups: HealthGroup[] }] } } };
  const groups = answer.data.viewer.accounts[0].logpushHealthAdaptiveGroups;
  // The newest are cut off, and would be drawn as a time without uploads.
  if (groups.length >= groupsMax) throw new Error("Too many outcomes in this time: choose a shorter one.");
  return groups;
}
