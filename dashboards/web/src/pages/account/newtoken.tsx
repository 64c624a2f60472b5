// Makes a token, and shows its secret, which cannot be had again.
import { useState } from "preact/hooks";
import { call, path, type Schemas } from "../../api/client";
import { serverNow } from "../../lib/clock";
import { useAction } from "../../lib/query";
import { zoneName } from "../../lib/time";
import { Button, CheckField, Copy, Dialog, Field, Note, Problem, SelectField, TextField, Time } from "../../ui/basics";
import { expiresOn, lifetimes, wrongExpiry, type Lifetime } from "./expiry";

type Token = Schemas["Token"];
type Scope = Schemas["Scope"];

const scopes: readonly (readonly [Scope, string])[] = [
  ["scripts:read", "see Workers, versions and metrics"],
  ["scripts:edit", "upload, deploy, and watch live"],
  ["policy:edit", "rollback policies and ramps"],
  ["logs:read", "see events and the health of jobs"],
  ["logs:edit", "Logpush jobs, with their credentials"],
  ["admin", "everything in this account, tokens too"],
];

export function NewToken(props: { account: string; onMade: (token: Token) => void; onClose: () => void }) {
  const [name, setName] = useState("");
  const [chosen, setChosen] = useState<readonly Scope[]>([]);
  const [lifetime, setLifetime] = useState<Lifetime>("90");
  const [date, setDate] = useState("");
  const [tried, setTried] = useState(false);
  const wrong = {
    name: name.trim() === "" ? "Say who or what will use it." : undefined,
    scopes: chosen.length === 0 ? "Choose at least one." : undefined,
    expiry: wrongExpiry(lifetime, date, serverNow()),
  };
  const make = useAction(async () => {
    const body: Record<string, unknown> = { name: name.trim(), scopes: chosen };
    const end = expiresOn(lifetime, date, serverNow());
    if (end) body["expires_on"] = end.toISOString();
    props.onMade(await call<Token>("POST", path("accounts", props.account, "tokens"), { body }));
  });
  const submit = (event: Event): void => {
    event.preventDefault();
    setTried(true);
    if (!wrong.name && !wrong.scopes && !wrong.expiry) void make.run();
  };
  const choose = (scope: Scope, on: boolean): void => setChosen(scopes.map(([s]) => s).filter((s) => (s === scope ? on : chosen.includes(s))));
  return (
    <Dialog title="Create a token" busy={make.busy} onClose={props.onClose}>
      <form class="stack" onSubmit={submit} noValidate>
        <TextField label="Name" value={name} onInput={setName} autoFocus hint="Who or what uses it, such as “ci” or “on call”" error={tried ? wrong.name : undefined} />
        <Field label="What it may do" error={tried ? wrong.scopes : undefined}>
          {(control) => (
            <div class="scopes" {...control} role="group" aria-label="What it may do">
              {scopes.map(([scope, meaning]) => (
                <CheckField key={scope} checked={chosen.includes(scope)} onChange={(on) => choose(scope, on)} label={<><strong>{scope}</strong><br /><span class="small quiet">{meaning}</span></>} />
              ))}
            </div>
          )}
        </Field>
        <SelectField label="Expires" value={lifetime} options={lifetimes} onChange={(v) => setLifetime(v as Lifetime)}
          hint={lifetime === "never" ? "It opens the account until somebody revokes it." : undefined} />
        {lifetime === "date" && <TextField label={`Date and time (${zoneName()})`} type="datetime-local" value={date} onInput={setDate} error={tried ? wrong.expiry : undefined} />}
        <Problem error={make.error} what="No token was made." />
        <div class="actions">
          <Button disabled={make.busy} onClick={props.onClose}>Cancel</Button>
          <Button look="primary" submit busy={make.busy}>Create the token</Button>
        </div>
      </form>
    </Dialog>
  );
}

/** Only its button closes it: a slip of the keyboard would lose the secret. */
export function Secret(props: { token: Token; onClose: () => void }) {
  const { token } = props;
  const value = token.value ?? "";
  return (
    <Dialog title={`The token ${token.name}`} onClose={undefined}>
      <Note tone="warn"><p><strong>Copy it now: it is shown only this once.</strong> Whoever has it can do what it may do.</p></Note>
      <div class="secret">
        <Field label="Secret">
          {(control) => <input {...control} class="input mono" readOnly value={value} onFocus={(e) => e.currentTarget.select()} />}
        </Field>
        <Copy text={value} what="the secret" />
      </div>
      <p class="small">{token.expires_on ? <>It expires <Time at={token.expires_on} />.</> : "It does not expire."} For the command line: keep it in a file for <code>--token-file</code>, or in <code>TIDEGATE_TOKEN</code>.</p>
      <div class="actions"><Button look="primary" onClick={props.onClose}>I have kept it</Button></div>
    </Dialog>
  );
}
