// Sends all letters that wait, in as many requests as that takes, and shows how far it is.
import { useState } from "preact/hooks";
import { call } from "../../api/client";
import { formatCount } from "../../lib/format";
import { useAction } from "../../lib/query";
import { Button, Dialog, Note, Problem } from "../../ui/basics";

interface Answer {
  letters: { id: string; state: string; error: string | null }[];
  left: number;
}

interface Progress {
  sent: number;
  refused: number;
  /** Of the last refusal. */
  reason: string | undefined;
}

export function ResendAll(props: { url: string; waiting: number; destination: string; onChange: () => void }) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <Button onClick={() => setOpen(true)}>Send all again</Button>
      {open && <Run {...props} onClose={() => { setOpen(false); props.onChange(); }} />}
    </>
  );
}

function Run(props: { url: string; waiting: number; destination: string; onClose: () => void }) {
  const [total] = useState(props.waiting); // of the moment when it was asked for
  const [progress, setProgress] = useState<Progress>();
  const [done, setDone] = useState(false);
  const run = useAction(async () => {
    let now: Progress = { sent: 0, refused: 0, reason: undefined };
    setProgress(now);
    // Each request tries the least tried letters, up to 100: after as many as waited, all had their turn.
    for (;;) {
      const { letters } = await call<Answer>("POST", `${props.url}/resend`);
      const refused = letters.filter((l) => l.error !== null);
      now = { sent: now.sent + letters.length - refused.length, refused: now.refused + refused.length, reason: refused.at(-1)?.error ?? now.reason };
      setProgress(now);
      if (letters.length === 0 || now.sent + now.refused >= total) break;
    }
    setDone(true);
  });
  const tried = progress ? progress.sent + progress.refused : 0;
  return (
    <Dialog title="Send all letters again?" busy={run.busy} onClose={props.onClose}>
      <p>{formatCount(total)} {total === 1 ? "letter is" : "letters are"} sent to {props.destination}, with the job’s settings of now. Those that are taken are gone from here; those that are refused again wait on.</p>
      {progress && (
        <div class="stack" role="status">
          <progress max={total} value={Math.min(tried, total)} aria-label="Letters that were tried" />
          <p>{formatCount(progress.sent)} taken, {formatCount(progress.refused)} refused again, of {formatCount(total)}.</p>
          {done && progress.refused > 0 && <Note tone="warn">{progress.reason}</Note>}
        </div>
      )}
      <Problem error={run.error} what="It stopped before the end." />
      <div class="actions">
        <Button disabled={run.busy} onClick={props.onClose}>{done ? "Close" : "Cancel"}</Button>
        {!done && <Button look="primary" busy={run.busy} onClick={() => void run.run()}>{run.busy ? "Sending …" : "Send all again"}</Button>}
      </div>
    </Dialog>
  );
}
