// Which fields a job sends, and in which order.
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { Button, CheckField, Field, TextField } from "../../ui/basics";
import { allFields } from "./draft";

interface Props {
  /** Descriptions by name; those of the default set in `standard`. */
  known: Record<string, string>;
  standard: string[];
  fields: string[];
  onChange: (fields: string[]) => void;
  error: string | undefined;
}

export function FieldsForm(props: Props) {
  const all = props.fields[0] === allFields;
  const set = (choose: boolean): void => props.onChange(choose ? props.standard : [allFields]);
  return (
    <div class="stack">
      <fieldset class="logpush-choice">
        <legend>Fields</legend>
        <label class="check"><input type="radio" name="fields" checked={all} onChange={() => set(false)} /><span>All of the dataset, also those that are added later</span></label>
        <label class="check"><input type="radio" name="fields" checked={!all} onChange={() => set(true)} /><span>Chosen ones, in an order of mine</span></label>
      </fieldset>
      {!all && <Choice {...props} />}
      {props.error && <p class="logpush-over small" role="alert">{props.error}</p>}
    </div>
  );
}

function Choice(props: Props) {
  const [search, setSearch] = useState("");
  const { fields, onChange } = props;
  const wanted = search.trim().toLowerCase();
  const shown = Object.entries(props.known).filter(([name, text]) => `${name} ${text}`.toLowerCase().includes(wanted)).sort(([a], [b]) => a.localeCompare(b));
  const toggle = (name: string, on: boolean): void => onChange(on ? [...fields, name] : fields.filter((f) => f !== name));
  return (
    <div class="columns">
      <div class="stack">
        <TextField label="Search fields" type="search" value={search} onInput={setSearch} />
        <ul class="logpush-fields">
          {shown.map(([name, text]) => (
            <li key={name}>
              <CheckField checked={fields.includes(name)} onChange={(on) => toggle(name, on)} label={<><code>{name}</code>{!props.standard.includes(name) && <span class="small quiet"> (of Tidegate alone)</span>}<br /><span class="small quiet">{text}</span></>} />
            </li>
          ))}
          {shown.length === 0 && <li class="quiet">No field is called or described so.</li>}
        </ul>
        <div class="row">
          <Button compact onClick={() => onChange(props.standard)}>Default set</Button>
          <Button compact onClick={() => onChange([])}>None</Button>
        </div>
      </div>
      <Order fields={fields} onChange={onChange} />
    </div>
  );
}

function Order(props: { fields: string[]; onChange: (fields: string[]) => void }) {
  const list = useRef<HTMLOListElement>(null);
  const moved = useRef<[to: number, by: number] | undefined>(undefined);
  useLayoutEffect(() => {
    if (!moved.current) return;
    const [to, by] = moved.current;
    moved.current = undefined;
    // On the button of the same field that goes on the same way, or back where it is at an end.
    const [up, down] = list.current!.children[to]!.querySelectorAll("button");
    const [same, other] = by < 0 ? [up!, down!] : [down!, up!];
    (same.ariaDisabled === "true" ? other : same).focus();
  });
  const move = (i: number, by: number): void => {
    moved.current = [i + by, by];
    const next = [...props.fields];
    const [field] = next.splice(i, 1);
    next.splice(i + by, 0, field!);
    props.onChange(next);
  };
  const last = props.fields.length - 1;
  return (
    <Field label={`Order of the ${props.fields.length} chosen fields`}>
      {(control) => (
        <ol id={control.id} class="logpush-order" ref={list}>
          {props.fields.map((name, i) => (
            <li key={name}>
              <code>{name}</code>
              <span class="row">
                <Button compact disabled={i === 0} onClick={() => move(i, -1)} aria-label={`Move ${name} up`}>↑</Button>
                <Button compact disabled={i === last} onClick={() => move(i, 1)} aria-label={`Move ${name} down`}>↓</Button>
              </span>
            </li>
          ))}
        </ol>
      )}
    </Field>
  );
}
