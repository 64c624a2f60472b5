// A filter as a tree of groups and comparisons, or as its JSON.
import { useId, useState } from "preact/hooks";
import { Button, Note, SelectField, TextField } from "../../ui/basics";
import { buildFilter, byteLength, countOperators, emptyGroup, filterBytesMax, filterOperatorsMax, isList, keyOf, operatorText, parseFilter, type Comparison, type FilterKey, type Group, type Node } from "./filter";

interface Props {
  text: string;
  keys: FilterKey[];
  onChange: (text: string) => void;
  error: string | undefined;
}

function tryParse(text: string): Group | string {
  try {
    return parseFilter(text);
  } catch (error) {
    return (error as Error).message;
  }
}

export function FilterForm(props: Props) {
  const [first] = useState(() => tryParse(props.text));
  const [tree, setTree] = useState<Group>(typeof first === "string" ? emptyGroup() : first);
  const [raw, setRaw] = useState(typeof first === "string");
  const [unfit, setUnfit] = useState<string>();
  const list = useId();
  const change = (next: Group): void => {
    setTree(next);
    props.onChange(buildFilter(next, props.keys));
  };
  const toTree = (): void => {
    const next = tryParse(props.text);
    setUnfit(typeof next === "string" ? next : undefined);
    if (typeof next === "string") return;
    setTree(next);
    setRaw(false);
  };
  return (
    <div class="stack">
      {raw
        ? <TextField label="Filter as JSON" mono rows={5} value={props.text} onInput={props.onChange} error={props.error} placeholder={`{"where":{"key":"Outcome","operator":"!eq","value":"ok"}}`} />
        : <GroupField group={tree} keys={props.keys} list={list} onChange={change} />}
      {!raw && props.error && <Note tone="bad">{props.error}</Note>}
      {unfit && <Note tone="warn" live>{unfit}</Note>}
      <datalist id={list}>{props.keys.map((k) => <option key={k.key} value={k.key}>{k.description}</option>)}</datalist>
      <div class="row">
        <Button compact onClick={raw ? toTree : () => setRaw(true)}>{raw ? "Use the builder" : "Edit as JSON"}</Button>
        {props.text !== "" && <Size text={props.text} operators={raw ? undefined : countOperators(tree)} />}
      </div>
    </div>
  );
}

function Size(props: { text: string; operators: number | undefined }) {
  const bytes = byteLength(props.text);
  const over = bytes > filterBytesMax || (props.operators ?? 0) > filterOperatorsMax;
  return (
    <span class={over ? "logpush-over small" : "small quiet"}>
      {over && "Too long: "}{bytes} of {filterBytesMax} bytes{props.operators !== undefined && `, ${props.operators} of ${filterOperatorsMax} operators`}
    </span>
  );
}

interface GroupProps {
  group: Group;
  keys: FilterKey[];
  list: string;
  onChange: (group: Group) => void;
  onRemove?: () => void;
}

function GroupField(props: GroupProps) {
  const { group, onChange } = props;
  const add = (node: Node): void => onChange({ ...group, children: [...group.children, node] });
  const put = (i: number, node: Node): void => onChange({ ...group, children: group.children.map((c, j) => (j === i ? node : c)) });
  const remove = (i: number): void => onChange({ ...group, children: group.children.filter((_, j) => j !== i) });
  return (
    <fieldset class={props.onRemove ? "logpush-group inner" : "logpush-group"}>
      <legend class="visually-hidden">{props.onRemove ? "Group of comparisons" : "Filter"}</legend>
      {group.children.length === 0 && <p class="quiet">{props.onRemove ? "An empty group is refused: add a comparison." : "All events are sent."}</p>}
      {group.children.length > 1 && (
        <SelectField label="Send an event when" value={group.join} options={[["and", "all of these are true"], ["or", "any of these is true"]]} onChange={(join) => onChange({ ...group, join: join as Group["join"] })} />
      )}
      {group.children.map((child, i) => child.kind === "group"
        ? <GroupField key={i} {...props} group={child} onChange={(g) => put(i, g)} onRemove={() => remove(i)} />
        : <ComparisonField key={i} comparison={child} keys={props.keys} list={props.list} onChange={(c) => put(i, c)} onRemove={() => remove(i)} />)}
      <div class="row">
        <Button compact onClick={() => add({ kind: "comparison", key: "Outcome", operator: "!eq", value: "ok" })}>Add a comparison</Button>
        <Button compact onClick={() => add({ ...emptyGroup(), join: group.join === "and" ? "or" : "and" })}>Add a group</Button>
        {props.onRemove && <Button compact onClick={props.onRemove}>Remove this group</Button>}
      </div>
    </fieldset>
  );
}

function ComparisonField(props: { comparison: Comparison; keys: FilterKey[]; list: string; onChange: (c: Comparison) => void; onRemove: () => void }) {
  const { comparison: c, onChange } = props;
  const known = keyOf(props.keys, c.key);
  // One that the key does not have stays, for the API to explain.
  const operators = [...new Set([...(known?.operators ?? []), c.operator])];
  const setKey = (key: string): void => {
    const next = keyOf(props.keys, key)?.operators;
    onChange({ ...c, key, operator: next && !next.includes(c.operator) ? next[0]! : c.operator });
  };
  return (
    <div class="logpush-comparison">
      <KeyField value={c.key} list={props.list} known={known !== undefined} onInput={setKey} />
      <SelectField label="Operator" value={c.operator} options={operators.map((o) => [o, operatorText(o)] as const)} onChange={(operator) => onChange({ ...c, operator })} />
      {isList(c.operator)
        ? <TextField label="Values, one a line" rows={3} value={c.value} onInput={(value) => onChange({ ...c, value })} />
        : <TextField label={known?.type === "int" ? "Value (whole number)" : "Value"} value={c.value} onInput={(value) => onChange({ ...c, value })} />}
      <Button compact onClick={props.onRemove} aria-label={`Remove the comparison of ${c.key || "nothing"}`}>Remove</Button>
    </div>
  );
}

function KeyField(props: { value: string; list: string; known: boolean; onInput: (key: string) => void }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>Field or member</label>
      <input id={id} class="input" list={props.list} value={props.value} autoComplete="off" spellcheck={false} aria-describedby={props.known ? undefined : `${id}-hint`} onInput={(e) => props.onInput(e.currentTarget.value)} />
      {!props.known && <span class="hint" id={`${id}-hint`}>Choose one of the list; {"<name>"} and {"<path>"} stand for names of yours.</span>}
    </div>
  );
}
