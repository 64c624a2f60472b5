// What a record looks like, and what stands around records.
import { useState } from "preact/hooks";
import { CheckField, SelectField, TextField } from "../../ui/basics";
import { bounds, type Bound, type Draft, type FieldErrors, type TextOption } from "./draft";
import { readEscapes, showEscapes } from "./escapes";

interface Props {
  draft: Draft;
  onChange: (part: Partial<Draft>) => void;
  errors: FieldErrors;
}

const texts: [name: TextOption, label: string, standard: (type: Draft["type"]) => string][] = [
  ["record_prefix", "Before a record", (type) => (type === "csv" ? "" : "{")],
  ["record_suffix", "After a record", (type) => (type === "csv" ? "\n" : "}\n")],
  ["field_delimiter", "Between fields", () => ","],
  ["record_delimiter", "Between records", () => ""],
  ["batch_prefix", "Before a batch", () => ""],
  ["batch_suffix", "After a batch", () => ""],
];

const timestamps = [["", "Default"], ["unixnano", "unixnano"], ["unix", "unix"], ["rfc3339", "rfc3339"], ["rfc3339ms", "rfc3339ms"], ["rfc3339ns", "rfc3339ns"]] as const;

export function OutputForm({ draft, onChange, errors }: Props) {
  return (
    <div class="stack">
      <div class="columns">
        <SelectField label="Format" value={draft.type} options={[["ndjson", "JSON, one record a line (ndjson)"], ["csv", "CSV"]]} onChange={(type) => onChange({ type: type as Draft["type"] })} error={errors["/output_options/output_type"]} />
        <SelectField label="Format of times" value={draft.timestamps} options={timestamps} onChange={(value) => onChange({ timestamps: value })} error={errors["/output_options/timestamp_format"]}
          hint="EventTimestampMs stays a whole number whatever this says: no field of this dataset is of the type timestamp." />
      </div>
      <CheckField label="Write objects and lists of JSON as text (stringify_object)" checked={draft.stringify} onChange={(stringify) => onChange({ stringify })} />
      <CheckField label={<>Write <code>${"{"}</code> as <code>x{"{"}</code> (CVE-2021-44228), for receivers with an old Log4j</>} checked={draft.cve} onChange={(cve) => onChange({ cve })} />
      <details open={draft.template !== "" || Object.keys(draft.texts).length > 0}>
        <summary>Templates, prefixes and delimiters</summary>
        <div class="stack logpush-details">
          <TextField label="Template of a record" mono rows={3} value={draft.template} onInput={(template) => onChange({ template })} error={errors["/output_options/record_template"]}
            placeholder={`"at":{{.EventTimestampMs}},"script":{{.ScriptName}}`} hint="Text with {{.Field}} of chosen fields. What stands before and after a record stays around it." />
          <div class="columns">
            {texts.map(([name, label, standard]) => <TextOptionField key={name} label={`${label} (${name})`} value={draft.texts[name]} standard={standard(draft.type)} error={errors[`/output_options/${name}`]} onChange={(text) => onChange({ texts: withText(draft.texts, name, text) })} />)}
          </div>
        </div>
      </details>
    </div>
  );
}

function withText(before: Draft["texts"], name: TextOption, text: string | undefined): Draft["texts"] {
  const { [name]: _, ...rest } = before;
  return text === undefined ? rest : { ...rest, [name]: text };
}

/** Text that may be empty, which is something else than the default. */
function TextOptionField(props: { label: string; value: string | undefined; standard: string; error: string | undefined; onChange: (text: string | undefined) => void }) {
  const standard = props.standard === "" ? "nothing" : showEscapes(props.standard);
  if (props.value === undefined) {
    return <div class="field"><span class="label">{props.label}</span><CheckField label={<>Other than <code>{standard}</code></>} checked={false} onChange={() => props.onChange(props.standard)} /></div>;
  }
  return (
    <div class="field">
      <EscapedField label={props.label} value={props.value} error={props.error} onChange={props.onChange} />
      <CheckField label={<>Other than <code>{standard}</code></>} checked onChange={() => props.onChange(undefined)} />
    </div>
  );
}

/** Keeps what is typed: a backslash alone is on its way to become something. */
function EscapedField(props: { label: string; value: string; error: string | undefined; onChange: (text: string) => void }) {
  const [typed, setTyped] = useState(() => showEscapes(props.value));
  const input = (text: string): void => {
    setTyped(text);
    props.onChange(readEscapes(text));
  };
  return <TextField label={props.label} mono value={typed} onInput={input} hint={"\\n is a line break, \\t a tab."} error={props.error} />;
}

export function BatchForm({ draft, onChange, errors }: Props) {
  return (
    <div class="columns">
      {(Object.keys(bounds) as Bound[]).map((name) => (
        <TextField key={name} label={bounds[name].label} value={draft.bounds[name]} onInput={(text) => onChange({ bounds: { ...draft.bounds, [name]: text } })} error={errors[`/${name}`]}
          hint={`${bounds[name].from.toLocaleString("en")} to ${bounds[name].to.toLocaleString("en")}; 0 turns the bound off. ${bounds[name].hint}`} />
      ))}
      <SelectField label="Frequency (deprecated)" value={draft.frequency} options={[["", "Not set"], ["high", "high: smaller batches"], ["low", "low: larger batches"]]} onChange={(frequency) => onChange({ frequency })} error={errors["/frequency"]}
        hint="For jobs that say nothing about batches. The bounds are the better way." />
    </div>
  );
}
