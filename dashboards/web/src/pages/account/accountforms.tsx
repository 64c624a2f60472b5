// Makes an account, and changes the name and the limits of one.
import { useState } from "preact/hooks";
import { call, path, type Schemas } from "../../api/client";
import { loadSession } from "../../session";
import { useAction } from "../../lib/query";
import { Button, Dialog, Problem, TextField } from "../../ui/basics";
import { toast } from "../../ui/toast";

type Account = Schemas["Account"];

const nameless = "An account needs a name.";

export function NewAccount(props: { onMade: () => void; onClose: () => void }) {
  const [name, setName] = useState("");
  const [tried, setTried] = useState(false);
  const make = useAction(async () => {
    const account = await call<Account>("POST", path("accounts"), { body: { name: name.trim() } });
    toast(`The account ${account.name} is made, with the subdomain ${account.subdomain}.`);
    await loadSession(); // which lists the accounts to choose from
  });
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setTried(true);
    if (name.trim() === "" || !(await make.run())) return;
    props.onMade();
    props.onClose();
  };
  return (
    <Dialog title="Create an account" busy={make.busy} onClose={props.onClose}>
      <form class="stack" onSubmit={(e) => void submit(e)} noValidate>
        <TextField label="Name" value={name} onInput={setName} autoFocus hint="The subdomain of its Workers is made from it. Accounts cannot be deleted." error={tried && name.trim() === "" ? nameless : undefined} />
        <Problem error={make.error} what="No account was made." />
        <Actions action="Create the account" busy={make.busy} onClose={props.onClose} />
      </form>
    </Dialog>
  );
}

export function ChangeAccount(props: { account: Account; onChanged: () => void; onClose: () => void }) {
  const { account } = props;
  const [name, setName] = useState(account.name);
  const [versions, setVersions] = useState(String(account.settings.max_versions));
  const [jobs, setJobs] = useState(String(account.settings.max_jobs));
  const change = useAction(async () => {
    const settings = { max_versions: Number(versions), max_jobs: Number(jobs) };
    await call<Account>("PATCH", path("accounts", account.id), { body: { name: name.trim(), settings } });
    toast(`The account ${name.trim()} is changed.`);
    await loadSession();
  });
  const wrong = {
    name: name.trim() === "" ? nameless : undefined,
    versions: outside(versions, 2, 100),
    jobs: outside(jobs, 0, 1000),
  };
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    if (wrong.name || wrong.versions || wrong.jobs || !(await change.run())) return;
    props.onChanged();
    props.onClose();
  };
  return (
    <Dialog title={`Change the account ${account.name}`} busy={change.busy} onClose={props.onClose}>
      <form class="stack" onSubmit={(e) => void submit(e)} noValidate>
        <TextField label="Name" value={name} onInput={setName} autoFocus hint={<>Its subdomain stays <code>{account.subdomain}</code>.</>} error={wrong.name} />
        <div class="limits">
          <TextField label="Versions in a deployment" type="number" value={versions} onInput={setVersions} hint="2 to 100" error={wrong.versions} />
          <TextField label="Logpush jobs" type="number" value={jobs} onInput={setJobs} hint="0 to 1,000" error={wrong.jobs} />
        </div>
        <p class="small quiet">What the account has already stays, also above a lower limit.</p>
        <Problem error={change.error} what="The account was not changed." />
        <Actions action="Save the changes" busy={change.busy} onClose={props.onClose} />
      </form>
    </Dialog>
  );
}

function Actions(props: { action: string; busy: boolean; onClose: () => void }) {
  return (
    <div class="actions">
      <Button disabled={props.busy} onClick={props.onClose}>Cancel</Button>
      <Button look="primary" submit busy={props.busy}>{props.action}</Button>
    </div>
  );
}

/** What is wrong with a whole number that must lie between two. */
function outside(text: string, least: number, most: number): string | undefined {
  const n = Number(text);
  return text.trim() !== "" && Number.isInteger(n) && n >= least && n <= most ? undefined : `A whole number from ${least} to ${most} is wanted.`;
}
