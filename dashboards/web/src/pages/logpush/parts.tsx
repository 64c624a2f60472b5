// What several pages of this area show.
import type { ComponentChildren } from "preact";
import { Badge, type Tone } from "../../ui/basics";
import { Page, Tabs } from "../../ui/page";
import { formatDuration } from "../../lib/time";
import { unknown } from "../../lib/format";
import { may } from "../../session";
import type { JobState } from "./api";

const states: Record<JobState["state"], [tone: Tone | undefined, text: string]> = {
  ok: ["good", "Delivering"],
  degraded: ["warn", "Delivering, with errors"],
  failing: ["bad", "Failing"],
  disabled: [undefined, "Paused"],
  disabled_failing: ["bad", "Switched off after failing"],
};

export function StateBadge(props: { state: JobState["state"] }) {
  const [tone, text] = states[props.state];
  return <Badge tone={tone}>{text}</Badge>;
}

/** How old what waits may be; nothing waits at 0. Reports come every 10 s and tell up to as much too much, so a job that is not behind has that as well. */
export function lagText(seconds: number | null): string {
  if (seconds === null) return unknown;
  return seconds === 0 ? "none" : `${seconds < 60 ? "at most " : ""}${formatDuration(seconds)}`;
}

export const lagHint = "Lag is the age of the oldest event that waited at the last report. Reports come every 10 s and tell up to 10 s too much: a job that keeps up shows up to 10 s.";

/** What went wrong last, for as long as the job is not well: each success clears its last error, also while more and more is refused. */
export function lastError(job: JobState): { message: string; at: string | undefined } | undefined {
  if (job.error_message !== null) return { message: job.error_message, at: job.last_error ?? undefined };
  const last = job.state === "degraded" || job.state === "failing" ? job.last_failure : null;
  return last ? { message: last.message, at: last.last_on } : undefined;
}

/** Jobs need no name. */
export const jobTitle = (job: { name: string; id?: number; job_id?: number }): string => job.name || `Job ${job.id ?? job.job_id}`;

export const isOn = (state: JobState["state"]): boolean => state !== "disabled" && state !== "disabled_failing";

/** The frame of the pages of one job. */
export function JobPage(props: { account: string; id: string; name: string; title?: string; actions?: ComponentChildren; letters?: number | undefined; children: ComponentChildren }) {
  const base = `/${props.account}/logpush/${props.id}`;
  const crumbs = [{ text: "Logpush", href: `/${props.account}/logpush` }];
  if (props.title !== undefined) crumbs.push({ text: props.name, href: base });
  const tabs = <Tabs label={`Pages of ${props.name}`} tabs={[
    [base, "Overview"], [`${base}/dead-letters`, props.letters ? `Dead letters (${props.letters})` : "Dead letters"], [`${base}/replays`, "Replays"],
    ...(may("logs:edit") ? [[`${base}/edit`, "Settings"] as const] : []),
  ]} />;
  return <Page title={props.title ?? props.name} crumbs={crumbs} actions={props.actions} tabs={tabs}>{props.children}</Page>;
}
