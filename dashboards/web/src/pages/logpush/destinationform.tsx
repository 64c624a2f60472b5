// Where a job delivers to: fields by the kind of destination, or the text itself.
import { useState } from "preact/hooks";
import { Button, CheckField, Field, Note, SelectField, TextField } from "../../ui/basics";
import { buildConf, emptyDestination, kindOf, kinds, parseConf, type Destination, type Kind, type Pair, type Parameter } from "./destination";

interface Props {
  conf: string;
  onChange: (conf: string) => void;
  error: string | undefined;
}

export function DestinationForm(props: Props) {
  const [fields, setFields] = useState<Destination | undefined>(() => parseConf(props.conf));
  const [raw, setRaw] = useState(props.conf !== "" && fields === undefined);
  const [shown, setShown] = useState(false);
  const [unfit, setUnfit] = useState(false);
  const change = (d: Destination): void => {
    setFields(d);
    props.onChange(buildConf(d));
  };
  const toFields = (): void => {
    const d = props.conf === "" ? undefined : parseConf(props.conf);
    setUnfit(d === undefined && props.conf !== "");
    if (d === undefined && props.conf !== "") return;
    setFields(d);
    setRaw(false);
  };
  return (
    <div class="stack">
      {raw ? <RawField {...props} shown={shown} /> : <KindField value={fields?.kind ?? ""} error={props.error} onChange={(id) => change(emptyDestination(kindOf(id)))} />}
      {!raw && fields && <KindFields key={fields.kind} kind={kindOf(fields.kind)} value={fields} shown={shown} onChange={change} />}
      {unfit && <Note tone="warn" live>The fields cannot hold this text without changing it. Edit it as it is, or begin anew with an empty one.</Note>}
      <div class="row">
        <Button compact onClick={raw ? toFields : () => setRaw(true)}>{raw ? "Use fields" : "Write the destination_conf itself"}</Button>
        <CheckField label="Show credentials" checked={shown} onChange={setShown} />
      </div>
    </div>
  );
}

function RawField(props: Props & { shown: boolean }) {
  const hint = "scheme://host/path?parameters, with URL-encoded values.";
  return props.shown
    ? <TextField label="destination_conf" mono rows={3} value={props.conf} onInput={props.onChange} hint={hint} error={props.error} />
    : <TextField label="destination_conf" mono type="password" autoComplete="new-password" value={props.conf} onInput={props.onChange} hint={`${hint} Hidden, because it holds credentials.`} error={props.error} />;
}

function KindField(props: { value: string; error: string | undefined; onChange: (id: string) => void }) {
  const groups = [...new Set(kinds.map((k) => k.group))];
  return (
    <Field label="Kind of destination" error={props.error}>
      {(control) => (
        <select {...control} class="input" value={props.value} onChange={(e) => e.currentTarget.value !== "" && props.onChange(e.currentTarget.value)}>
          <option value="">Choose one …</option>
          {groups.map((group) => (
            <optgroup key={group} label={group}>
              {kinds.filter((k) => k.group === group).map((k) => <option key={k.id} value={k.id}>{k.name}</option>)}
            </optgroup>
          ))}
        </select>
      )}
    </Field>
  );
}

function KindFields(props: { kind: Kind; value: Destination; shown: boolean; onChange: (d: Destination) => void }) {
  const { kind, value, shown } = props;
  const change = (part: Partial<Destination>): void => props.onChange({ ...value, ...part });
  const secret = (hidden: boolean | undefined): { type: "text" | "password"; autoComplete: string } => ({ type: hidden && !shown ? "password" : "text", autoComplete: hidden ? "new-password" : "off" });
  return (
    <>
      <div class="columns">
        {kind.host && <TextField {...kind.host} value={value.host} onInput={(host) => change({ host })} required />}
        {kind.path && <TextField label={kind.path.label} hint={kind.path.hint} placeholder={kind.path.placeholder ?? ""} required={kind.path.required ?? false} {...secret(kind.path.hidden)} value={value.path} onInput={(path) => change({ path })} />}
        {kind.login && <TextField label="User" {...secret(true)} type="text" value={value.user} onInput={(user) => change({ user })} />}
        {kind.login && <TextField label="Password or token" {...secret(true)} value={value.password} onInput={(password) => change({ password })} />}
        {kind.parameters.map((p) => <ParameterField key={p.name} parameter={p} look={secret(p.secret)} value={value.parameters[p.name] ?? ""} onChange={(text) => change({ parameters: { ...value.parameters, [p.name]: text } })} />)}
        {kind.rest && <TextField label={kind.rest.label} hint={kind.rest.hint} required={kind.rest.required ?? false} mono {...secret(kind.rest.secret)} value={value.rest} onInput={(rest) => change({ rest })} />}
      </div>
      {kind.headers && <PairsField label="Headers of the requests" name="Header" look={secret(true)} pairs={value.headers} onChange={(headers) => change({ headers })} />}
      {kind.open && <PairsField label={kind.open.label} name={kind.open.name} look={secret(false)} pairs={value.open} onChange={(open) => change({ open })} />}
    </>
  );
}

interface Look {
  type: "text" | "password";
  autoComplete: string;
}

function ParameterField(props: { parameter: Parameter; look: Look; value: string; onChange: (value: string) => void }) {
  const { parameter: p, value, onChange } = props;
  if (p.options) {
    const [first] = p.options;
    const none = p.options.length === 1 && first === "true" ? "No" : "Default";
    const options = [["", none] as const, ...p.options.map((o) => [o, o === "true" && none === "No" ? "Yes" : o] as const)];
    return <SelectField label={p.label} hint={p.hint} value={value} options={options} onChange={onChange} />;
  }
  return <TextField label={p.label} hint={p.hint} placeholder={p.placeholder ?? ""} required={p.required ?? false} {...props.look} value={value} onInput={onChange} />;
}

function PairsField(props: { label: string; name: string; look: Look; pairs: Pair[]; onChange: (pairs: Pair[]) => void }) {
  const { pairs, onChange } = props;
  const put = (i: number, pair: Pair): void => onChange(pairs.map((p, j) => (j === i ? pair : p)));
  return (
    <fieldset class="stack logpush-pairs">
      <legend>{props.label}</legend>
      {pairs.map(([name, value], i) => (
        <div class="logpush-pair" key={i}>
          <TextField label={`${props.name} ${i + 1}`} placeholder="Name" value={name} onInput={(text) => put(i, [text, value])} />
          <TextField label={`Value ${i + 1}`} {...props.look} value={value} onInput={(text) => put(i, [name, text])} />
          <Button compact onClick={() => onChange(pairs.filter((_, j) => j !== i))} aria-label={`Remove ${props.name.toLowerCase()} ${name || i + 1}`}>Remove</Button>
        </div>
      ))}
      <div><Button compact onClick={() => onChange([...pairs, ["", ""]])}>Add a {props.name.toLowerCase()}</Button></div>
    </fieldset>
  );
}
