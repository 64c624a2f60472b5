// Asks before a deployment, with the sentence of what it does, and shows why it was refused.
import { useState } from "preact/hooks";
import { ApiError } from "../../api/client";
import { useAction } from "../../lib/query";
import { changeSentence, movedSentence, sameSplit, splitText, type Split } from "../../lib/split";
import { Button, Dialog, Note, Problem, TextField } from "../../ui/basics";
import { toast } from "../../ui/toast";
import { deploy, isOvertaken, isSecretsChanged, type ScriptState } from "./data";
import type { RecentRate } from "./rates";
import type { VersionNames } from "./versions";

export interface Ask {
  title: string;
  /** The words of the button. */
  action: string;
  splits: Split[];
  message: string;
  danger?: boolean;
}

/** Deploys over what `state` says serves. A refusal because of another deployment has the state read again. */
export function useDeploy(account: string, script: string, state: ScriptState, onDone: () => void) {
  return useAction(async (splits: Split[], message: string, force?: boolean) => {
    try {
      await deploy(account, script, { splits, message, replaces: state.deployments[0]?.id, force: force ?? false });
    } catch (error) {
      if (isOvertaken(error)) onDone();
      throw error;
    }
    toast(`Deployed: ${splitText(splits, state.names.name)}.`);
    onDone();
  });
}

/** Why a deployment was refused, and how it can be had all the same. */
export function Refusal(props: { error: unknown; names: VersionNames; busy: boolean; onForce: () => void }) {
  const { error } = props;
  return (
    <>
      <Problem error={inWords(error, props.names)} what="Nothing was deployed." />
      {isOvertaken(error) && <Note tone="warn"><p>Somebody, or a ramp, deployed meanwhile. The page shows what serves now: read the sentence again before you go on.</p></Note>}
      {isSecretsChanged(error) && <p><Button busy={props.busy} onClick={props.onForce}>Deploy it with its own secrets</Button></p>}
    </>
  );
}

/** An error with the tags of the versions that it names by their ids. */
function inWords(error: unknown, names: VersionNames): unknown {
  if (!(error instanceof ApiError)) return error;
  return new ApiError(error.status, error.messages.map((m) => ({ ...m, message: names.told(m.message) })), error.requestId);
}

export function DeployDialog(props: { account: string; script: string; state: ScriptState; ask: Ask; recent: RecentRate | undefined; onDone: () => void; onClose: () => void }) {
  const { ask, state } = props;
  const [message, setMessage] = useState(ask.message);
  // What was read here is what is agreed to: it does not change with what serves meanwhile.
  const [seen, setSeen] = useState(state);
  const action = useDeploy(props.account, props.script, seen, props.onDone);
  const serving = seen.deployments[0]?.versions ?? [];
  const present = state.deployments[0];
  const overtaken = present?.id !== seen.deployments[0]?.id;
  const same = sameSplit(serving, ask.splits);
  const run = async (force?: boolean): Promise<void> => {
    if (await action.run(ask.splits, message, force)) props.onClose();
  };
  return (
    <Dialog title={ask.title} busy={action.busy} onClose={props.onClose}>
      <p><span aria-live="polite">{changeSentence(serving, ask.splits, state.names.name)}</span> {movedSentence(serving, ask.splits, props.recent)}</p>
      <TextField label="Message" value={message} onInput={setMessage} hint="Why, for those who read the history." />
      {overtaken ? <Problem error={action.error} what="Nothing was deployed." /> : <Refusal error={action.error} names={seen.names} busy={action.busy} onForce={() => void run(true)} />}
      {overtaken && !action.busy && (
        <Note tone="warn" live>
          <p>Another deployment was made since this was asked. {present ? <>Now {splitText(present.versions, state.names.name)} serves.</> : "Now nothing serves."}</p>
          <p><Button compact onClick={() => { action.clear(); setSeen(state); }}>Go on from this</Button></p>
        </Note>
      )}
      <div class="actions">
        <Button disabled={action.busy} onClick={props.onClose}>Cancel</Button>
        <Button look={ask.danger ? "danger" : "primary"} busy={action.busy} disabled={same || overtaken} onClick={() => void run()}>{ask.action}</Button>
      </div>
    </Dialog>
  );
}
