// What several pages of this area show.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { Badge, Button, Confirm, type Tone } from "../../ui/basics";
import { Page, Tabs } from "../../ui/page";
import { formatDuration } from "../../lib/time";
import { useAction } from "../../lib/query";
import { unknown } from "../../lib/format";
import { may } from "../../session";
import { toast } from "../../ui/toast";
import { updateJob, type JobState } from "./api";

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

/** The age of what waits; nothing waits at 0. */
export function lagText(seconds: number | null): string {
  if (seconds === null) return unknown;
  return seconds === 0 ? "none" : formatDuration(seconds);
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

/** Switches a job on or off, after saying what that means. */
export function Switch(props: { account: string; job: JobState; compact?: boolean; onDone: () => void }) {
  const [asking, setAsking] = useState(false);
  const on = isOn(props.job.state);
  const name = jobTitle(props.job);
  const act = useAction(async () => {
    await updateJob(props.account, String(props.job.job_id), { enabled: !on });
    setAsking(false);
    toast(on ? `${name} is paused.` : `${name} delivers from now on.`);
    props.onDone();
  });
  if (!may("logs:edit")) return null;
  const action = on ? "Pause" : "Resume";
  return (
    <>
      <Button compact={props.compact} onClick={() => setAsking(true)} aria-label={`${action} ${name}`}>{action}</Button>
      {asking && (
        <Confirm title={`${action} ${name}?`} action={action} busy={act.busy} error={act.error} onConfirm={() => void act.run()} onClose={() => setAsking(false)}>
          {on
            ? <p>{props.job.destination} gets nothing more until the job is resumed. Events that happen meanwhile are sent by a replay only.</p>
            : <p>{props.job.destination} gets events that happen from now on. What happened while the job was paused is sent by a replay only: start one without an end afterwards, and nothing is left out.</p>}
        </Confirm>
      )}
    </>
  );
}
