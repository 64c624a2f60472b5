// Starts a replay, and says what it may repeat.
import { useState } from "preact/hooks";
import { call } from "../../api/client";
import { serverNow } from "../../lib/clock";
import { fromInput, toInput } from "../../lib/moments";
import { useAction } from "../../lib/query";
import { zone, zoneName } from "../../lib/time";
import { Button, CheckField, Problem, TextField } from "../../ui/basics";
import { toast } from "../../ui/toast";
import type { Replay } from "./api";
import { fieldErrors, type FieldErrors } from "./draft";

const hour = 3600 * 1000;

interface Props {
  url: string;
  destination: string;
  on: boolean;
  lastComplete: string | null;
  onStarted: () => void;
}

export function ReplayForm(props: Props) {
  const [from, setFrom] = useState(() => toInput(new Date(serverNow().getTime() - hour)));
  const [to, setTo] = useState(() => toInput(serverNow()));
  const [open, setOpen] = useState(false);
  const [unmarked, setUnmarked] = useState(false);
  const [errors, setErrors] = useState<FieldErrors>({});
  const start = useAction(async () => {
    try {
      const made = await call<Replay>("POST", props.url, { body: { from: fromInput(from), ...(open ? {} : { to: fromInput(to) }), include_unmarked: unmarked } });
      setErrors({});
      toast(`Replay ${made.id} is queued.`);
      props.onStarted();
    } catch (error) {
      setErrors(fieldErrors(error));
      throw error;
    }
  });
  // What is typed is in the zone that was chosen then.
  const where = `(${zoneName(zone.value)})`;
  const fromStop = (): void => {
    setFrom(toInput(new Date(props.lastComplete!)));
    setOpen(true);
  };
  return (
    <form class="panel" aria-labelledby="start-replay" onSubmit={(e) => { e.preventDefault(); void start.run(); }}>
      <h2 id="start-replay">Start a replay</h2>
      <div class="stack">
        <p class="small">
          {props.destination} gets the events of this time again, with the job’s settings of now, beside live delivery. Buckets and folders get objects of other names than live delivery’s;
          receivers see other batch ids, so <strong>what was delivered before comes twice</strong>. A repeat of the same replay’s batch, as after a crash, has the same name and replaces itself.
        </p>
        <div class="columns">
          <TextField label={`From ${where}`} type="datetime-local" required value={from} onInput={setFrom} error={errors["/from"]} />
          {!open && <TextField label={`Until ${where}`} type="datetime-local" required value={to} onInput={setTo} error={errors["/to"]} hint="Events before this time. It may not be in the future." />}
        </div>
        <CheckField checked={open} disabled={!props.on} onChange={setOpen} label={<>Without an end: up to where live delivery began when the job was switched on. Nothing in between is left out or sent twice.{!props.on && <span class="quiet"> Only for a job that is on: resume it first.</span>}</>} />
        <CheckField checked={unmarked} onChange={setUnmarked} label="Also old events of which it is not known whether their scripts had opted out of Logpush" />
        <Problem error={start.error} what="The replay is not started." />
        <div class="row">
          <Button look="primary" submit busy={start.busy}>Start the replay</Button>
          {props.on && props.lastComplete && <Button look="plain" onClick={fromStop}>Fill in what followed the last delivery</Button>}
        </div>
      </div>
    </form>
  );
}
