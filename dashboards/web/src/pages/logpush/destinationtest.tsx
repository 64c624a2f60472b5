// Tries a destination before a job is stored, and proves that it is one's own where
// the operator's credentials write there.
import { useState } from "preact/hooks";
import { call } from "../../api/client";
import { useAction } from "../../lib/query";
import { Button, Note, Problem, TextField } from "../../ui/basics";
import { advise } from "./advice";
import { logpushPath } from "./api";

interface Validity {
  valid: boolean;
  message: string;
}

export function DestinationTest(props: { account: string; conf: string }) {
  const [answer, setAnswer] = useState<{ conf: string; validity: Validity; shared: boolean }>();
  const test = useAction(async () => {
    const body = { destination_conf: props.conf };
    const [validity, { exists }] = await Promise.all([
      call<Validity>("POST", logpushPath(props.account, "validate", "destination"), { body }),
      call<{ exists: boolean }>("POST", logpushPath(props.account, "validate", "destination", "exists"), { body }),
    ]);
    setAnswer({ conf: props.conf, validity, shared: exists });
  });
  const shown = answer?.conf === props.conf ? answer : undefined; // of another destination it says nothing
  const advice = shown && advise(shown.validity.message);
  return (
    <div class="stack">
      <div class="row">
        <Button busy={test.busy} disabled={props.conf === ""} onClick={() => void test.run()}>Test the destination</Button>
        <span class="small quiet">Sends one test upload. Saving does so, too.</span>
      </div>
      <Problem error={test.error} what="The destination could not be tested." />
      <div role="status">
        {shown && (shown.validity.valid
          ? <Note tone="good">The destination took the test upload.{shown.shared && " A job delivers there already: it would get events twice."}</Note>
          : <Note tone="bad"><p>{shown.validity.message}</p>{advice && <p>{advice}</p>}</Note>)}
      </div>
    </div>
  );
}

interface Ownership extends Validity {
  filename: string;
  ownership_challenge?: string;
}

/** The three steps of a proof of ownership. The challenge is good for this very destination_conf. */
export function OwnershipProof(props: { account: string; conf: string; challenge: string; onChange: (challenge: string) => void; error: string | undefined }) {
  const [file, setFile] = useState<{ conf: string; name: string }>();
  const [checked, setChecked] = useState<{ of: string; validity: Validity }>();
  const of = `${props.conf}\n${props.challenge}`;
  const write = useAction(async () => {
    const answer = await call<Ownership>("POST", logpushPath(props.account, "ownership"), { body: { destination_conf: props.conf } });
    if (!answer.valid) throw new Error(answer.message);
    setFile({ conf: props.conf, name: answer.filename });
    if (answer.ownership_challenge) props.onChange(answer.ownership_challenge);
  });
  const check = useAction(async () => {
    const body = { destination_conf: props.conf, ownership_challenge: props.challenge.trim() };
    setChecked({ of, validity: await call<Validity>("POST", logpushPath(props.account, "ownership", "validate"), { body }) });
  });
  const verdict = checked?.of === of ? checked.validity : undefined;
  return (
    <fieldset class="stack logpush-steps">
      <legend>Prove that the destination is yours</legend>
      <p class="small">Tidegate writes there with the operator’s credentials, so whoever names it shows first that they can read it. The operator’s own token needs no proof.</p>
      <ol class="stack">
        <li class="stack">
          <div class="row"><Button busy={write.busy} disabled={props.conf === ""} onClick={() => void write.run()}>Write a challenge file</Button></div>
          <Problem error={write.error} />
          <div role="status">{file?.conf === props.conf && <Note>The file <code>{file.name}</code> is written. It is good for 7 days, and for this destination as it is now.</Note>}</div>
        </li>
        <li><TextField label="What the file holds" mono rows={3} value={props.challenge} onInput={props.onChange} error={props.error} hint="Open the file in the destination and paste its content." /></li>
        <li class="stack">
          <div class="row"><Button busy={check.busy} disabled={props.challenge.trim() === ""} onClick={() => void check.run()}>Check the challenge</Button></div>
          <Problem error={check.error} />
          <div role="status">{verdict && <Note tone={verdict.valid ? "good" : "bad"}>{verdict.valid ? "This proves that the destination is yours." : verdict.message}</Note>}</div>
        </li>
      </ol>
    </fieldset>
  );
}
