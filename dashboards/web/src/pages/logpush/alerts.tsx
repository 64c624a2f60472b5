// The webhook that is told when jobs fail.
import { useEffect, useState } from "preact/hooks";
import { call, get } from "../../api/client";
import { useAction, useQuery } from "../../lib/query";
import { Button, Confirm, Loading, Problem, TextField } from "../../ui/basics";
import { toast } from "../../ui/toast";
import { logpushPath, type Alerts } from "./api";
import { fieldErrors } from "./draft";

export function AlertsPanel(props: { account: string }) {
  const url = logpushPath(props.account, "alerts");
  const alerts = useQuery(url, (signal) => get<Alerts | null>(url, { signal })); // null: nobody is told
  const [editing, setEditing] = useState(false);
  const [ending, setEnding] = useState(false);
  const end = useAction(async () => {
    await call<null>("DELETE", url);
    setEnding(false);
    toast("Nobody is told of failing jobs any more.");
    alerts.reload();
  });
  return (
    <section class="panel" aria-labelledby="alerts">
      <h2 id="alerts">Alerts</h2>
      <div class="stack">
        <Problem error={alerts.error} what="The setting could not be read." retry={alerts.reload} />
        {alerts.data === undefined && alerts.loading && <Loading what="the setting" />}
        {alerts.data !== undefined && (
          <p>
            {alerts.data ? <>Failures, recoveries, dead letters and losses of jobs are told to <code>{alerts.data.url}</code>{alerts.data.has_secret ? ", with a secret" : ""}: once in 24 hours for each job and kind.</>
              : "Nobody is told when a job fails. Name a webhook to change that."}
          </p>
        )}
        {alerts.data !== undefined && !editing && (
          <div class="row">
            <Button onClick={() => setEditing(true)}>{alerts.data ? "Change the webhook" : "Name a webhook"}</Button>
            {alerts.data && <Button onClick={() => setEnding(true)}>End the alerts</Button>}
          </div>
        )}
        {editing && <AlertsForm url={url} before={alerts.data ?? undefined} onClose={() => setEditing(false)} onSaved={() => { setEditing(false); alerts.reload(); }} />}
      </div>
      {ending && (
        <Confirm title="End the alerts?" action="End the alerts" danger busy={end.busy} error={end.error} onConfirm={() => void end.run()} onClose={() => setEnding(false)}>
          <p>{alerts.data?.url} is not told any more when jobs of this account fail.</p>
        </Confirm>
      )}
    </section>
  );
}

function AlertsForm(props: { url: string; before: Alerts | undefined; onClose: () => void; onSaved: () => void }) {
  const [address, setAddress] = useState("");
  const [secret, setSecret] = useState("");
  useEffect(() => setAddress(props.before?.url ?? ""), [props.before]);
  const save = useAction(async () => {
    await call<Alerts>("PUT", props.url, { body: { url: address.trim(), ...(secret ? { secret } : {}) } });
    toast("The webhook is saved.");
    props.onSaved();
  });
  const errors = fieldErrors(save.error);
  return (
    <form class="stack logpush-narrow" onSubmit={(e) => { e.preventDefault(); void save.run(); }}>
      <TextField label="Address of the webhook" type="url" required autoFocus value={address} onInput={setAddress} placeholder="https://alerts.example.com/hook" error={errors["/url"]} />
      <TextField label="Secret" type="password" value={secret} onInput={setSecret} autoComplete="new-password" error={errors["/secret"]}
        hint={props.before?.has_secret ? "Sent in the header cf-webhook-auth. The present one is not shown: without a new one there is none afterwards." : "Sent in the header cf-webhook-auth. May be left out."} />
      <Problem error={save.error} />
      <div class="row"><Button look="primary" submit busy={save.busy}>Save the webhook</Button><Button onClick={props.onClose}>Cancel</Button></div>
    </form>
  );
}
