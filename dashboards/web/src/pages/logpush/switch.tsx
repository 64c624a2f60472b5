// Switches a job on or off, after saying what that means.
import { useState } from "preact/hooks";
import { call } from "../../api/client";
import { useAction } from "../../lib/query";
import { may } from "../../session";
import { Button, CheckField, Confirm, Time } from "../../ui/basics";
import { toast } from "../../ui/toast";
import { jobPath, updateJob, type JobState, type Replay } from "./api";
import { isOn, jobTitle } from "./parts";
import { missedFrom } from "./resume";

export function Switch(props: { account: string; job: JobState; compact?: boolean; onDone: () => void }) {
  // The job as it was asked about: what it says of where it stopped is gone when it is on again.
  const [asked, setAsked] = useState<JobState>();
  if (!may("logs:edit")) return null;
  const action = isOn(props.job.state) ? "Pause" : "Resume";
  const Ask = asked && isOn(asked.state) ? Pause : Resume;
  return (
    <>
      <Button compact={props.compact} onClick={() => setAsked(props.job)} aria-label={`${action} ${jobTitle(props.job)}`}>{action}</Button>
      {asked && <Ask account={props.account} job={asked} onClose={() => setAsked(undefined)} onDone={props.onDone} />}
    </>
  );
}

interface Props {
  account: string;
  job: JobState;
  onClose: () => void;
  /** The job is switched. */
  onDone: () => void;
}

function Pause({ account, job, onClose, onDone }: Props) {
  const name = jobTitle(job);
  const act = useAction(async () => {
    await updateJob(account, String(job.job_id), { enabled: false });
    toast(`${name} is paused.`);
    onClose();
    onDone();
  });
  return (
    <Confirm title={`Pause ${name}?`} action="Pause" busy={act.busy} error={act.error} onConfirm={() => void act.run()} onClose={onClose}>
      <p>{job.destination} gets nothing more until the job is resumed. Events that happen meanwhile are sent by a replay only.</p>
    </Confirm>
  );
}

function Resume({ account, job, onClose, onDone }: Props) {
  const name = jobTitle(job);
  const id = String(job.job_id);
  const from = missedFrom(job.complete_until);
  const [missed, setMissed] = useState(false);
  const [resumed, setResumed] = useState(false);
  const act = useAction(async () => {
    if (!resumed) {
      await updateJob(account, id, { enabled: true });
      setResumed(true);
      toast(`${name} delivers from now on.`);
      onDone();
    }
    if (missed) {
      const replay = await call<Replay>("POST", jobPath(account, id, "replays"), { body: { from } });
      toast(`Replay ${replay.id} is queued.`);
    }
    onClose();
  });
  return (
    <Confirm title={resumed ? `${name} is resumed` : `Resume ${name}?`} action={resumed ? "Start the replay" : "Resume"} busy={act.busy} error={act.error} onConfirm={() => void act.run()} onClose={onClose}>
      <p>{job.destination} gets events that happen from now on. What happened while the job was off is sent by a replay only.</p>
      {from !== undefined && (
        <>
          <CheckField checked={missed} disabled={resumed} onChange={setMissed} label={<>Also start a replay from <Time at={from} absolute />, without an end</>} />
          <p class="small quiet">
            That is a minute before the time until which every partition had delivered all. What some had delivered after it comes twice. Events that a gateway kept in its spool for longer than a minute
            need a replay that begins earlier.
          </p>
        </>
      )}
      {from === undefined && job.last_complete !== null && <p class="small quiet">How far every partition had come is not known. Start a replay without an end afterwards, from well before the job stopped.</p>}
    </Confirm>
  );
}
