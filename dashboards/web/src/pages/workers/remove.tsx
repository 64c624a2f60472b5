// Deletes a script, after its name was typed.
import { useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { ApiError, call, scriptPath } from "../../api/client";
import { useAction, useMounted } from "../../lib/query";
import { Button, Dialog, Note, Problem, TextField } from "../../ui/basics";
import { toast } from "../../ui/toast";

const codeInUse = 10064;

export function RemovePanel(props: { account: string; script: string }) {
  const [open, setOpen] = useState(false);
  return (
    <section class="panel" aria-labelledby="remove">
      <h2 id="remove">Delete the script</h2>
      <div class="row spread">
        <p>Its versions, deployments, routes, secrets and policy go with it, and its addresses answer no more.</p>
        <Button onClick={() => setOpen(true)}>Delete {props.script} …</Button>
      </div>
      {open && <RemoveDialog {...props} onClose={() => setOpen(false)} />}
    </section>
  );
}

function RemoveDialog({ account, script, onClose }: { account: string; script: string; onClose: () => void }) {
  const { route } = useLocation();
  const mounted = useMounted();
  const [typed, setTyped] = useState("");
  const action = useAction(async (force: boolean) => {
    await call<unknown>("DELETE", scriptPath(account, script), { query: { force: force || undefined } });
    toast(`${script} is deleted.`);
    if (mounted()) route(`/${account}/workers`);
  });
  const inUse = action.error instanceof ApiError && action.error.messages.some((m) => m.code === codeInUse);
  const ready = typed === script;
  return (
    <Dialog title={`Delete ${script}`} busy={action.busy} onClose={onClose}>
      <form class="stack" onSubmit={(e) => { e.preventDefault(); if (ready) void action.run(false); }}>
        <Note tone="bad"><p>This cannot be undone: every version of {script} and the storage of its Durable Objects is removed, and requests to it fail from then on. Recorded events stay as long as events are kept.</p></Note>
        <TextField label={`Type “${script}” to confirm`} value={typed} onInput={setTyped} autoFocus mono />
        <Problem error={action.error} what="The script was not deleted." />
        {inUse && <p><Button busy={action.busy} disabled={!ready} onClick={() => void action.run(true)}>Delete it although others use it</Button></p>}
        <div class="actions">
          <Button disabled={action.busy} onClick={onClose}>Cancel</Button>
          <Button submit look="danger" busy={action.busy} disabled={!ready}>Delete {script}</Button>
        </div>
      </form>
    </Dialog>
  );
}
