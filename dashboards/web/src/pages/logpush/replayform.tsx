// Starts a replay, and says what it may repeat.
import { useState } from "preact/hooks";
import { call } from "../../api/client";
import { serverNow } from "../../lib/clock";
import { fromInput, toInput } from "../../lib/moments";
import { useAction } from "../../lib/query";
import { zoneName } from "../../lib/time";
import { Button, CheckField, Problem, TextField } from "../../ui/basics";
import { toast } from "../../ui/toast";
import type { Replay } from "./api";
import { fieldErrors, type FieldErrors } from "./draft";

const hour = 3600 * 1000;

/** The beginning of a minute, because the inputs show no more. */
const minuteOf = (ms: number): string => new Date(ms - (ms % 60_000)).toISOString();

interface Props {
  url: string;
  destination: string;
  on: boolean;
  onStarted: () => void;
}

export function ReplayForm(props: Props) {
  // Times, not what is typed: the inputs show the same ones when another zone is chosen.
  const [from, setFrom] = useState(() => minuteOf(serverNow().getTime() - hour));
  const [to, setTo] = useState(() => minuteOf(serverNow().getTime()));
  const [open, setOpen] = useState(false);
  const [unmarked, setUnmarked] = useState(false);
  const [errors, setErrors] = useState<FieldErrors>({});
  const start = useAction(async () => {
    try {
      const made = await call<Replay>("POST", props.url, { body: { from, ...(open ? {} : { to }), include_unmarked: unmarked } });
      setErrors({});
      toast(`Replay ${made.id} is queued.`);
      props.onStarted();
    } catch (error) {
      setErrors(fieldErrors(error));
      throw error;
    }
  });
  const where = `(${zoneName()})`;
  return (
    <form class="panel" aria-labelledby="start-replay" onSubmit={(e) => { e.preventDefault(); void start.run(); }}>
      <h2 id="start-replay">Start a replay</h2>
      <div class="stack">
        <p class="small">
          {props.destination} gets the events of this time again, with the job’s settings of now, beside live delivery. Buckets and folders get objects of other names than live delivery’s;
          receivers see other batch ids, so <strong>what was delivered before comes twice</strong>. A repeat of the same replay’s batch, as after a crash, has the same name and replaces itself.
        </p>
        <div class="columns">
          <TextField label={`From ${where}`} type="datetime-local" required value={toInput(from)} onInput={(text) => setFrom(fromInput(text))} error={errors["/from"]} />
          {!open && <TextField label={`Until ${where}`} type="datetime-local" required value={toInput(to)} onInput={(text) => setTo(fromInput(text))} error={errors["/to"]} hint="Events before this time. It may not be in the future." />}
        </div>
        <CheckField checked={open} disabled={!props.on} onChange={setOpen} label={<>Without an end: up to where live delivery began when the job was switched on last. Nothing is left out or sent twice at that border.{!props.on && <span class="quiet"> Only for a job that is on: resume it, which can start this replay, too.</span>}</>} />
        <CheckField checked={unmarked} onChange={setUnmarked} label="Also old events of which it is not known whether their scripts had opted out of Logpush" />
        <Problem error={start.error} what="The replay is not started." />
        <div class="row"><Button look="primary" submit busy={start.busy}>Start the replay</Button></div>
      </div>
    </form>
  );
}
