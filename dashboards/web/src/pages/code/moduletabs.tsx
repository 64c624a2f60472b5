// The modules in the editor: which one is shown, and what becomes of them.
import { useRef, useState } from "preact/hooks";
import { formatBytes } from "../../lib/format";
import { Badge, Button, Confirm, Dialog, SelectField, TextField } from "../../ui/basics";
import { moduleTypes, nameProblem, typeName, typeOfName } from "./modules";
import { mainOf, type Sheet, type Work } from "./work";

interface Props {
  work: Work;
  shown: Sheet;
  /** Ids of the modules whose text is another one. */
  edited: ReadonlySet<number>;
  /** Ids of the modules that the runtime complains of. */
  wrong: ReadonlySet<number>;
  readOnly: boolean;
  panel: string;
  onShow: (sheet: Sheet) => void;
  onAdd: (name: string, contentType: string) => void;
  onChange: (sheet: Sheet, changes: { name: string; contentType: string }) => void;
  onMain: (sheet: Sheet) => void;
  onDelete: (sheet: Sheet) => void;
}

type Asked = "add" | "change" | "delete";

export function ModuleTabs(props: Props) {
  const { work, shown } = props;
  const [asked, setAsked] = useState<Asked>();
  const close = (): void => setAsked(undefined);
  const isMain = mainOf(work) === shown;
  const names = work.sheets.map((s) => s.name);
  return (
    <div class="code-bar">
      <TabList {...props} />
      {!props.readOnly && (
        <div class="row code-tools">
          <Button compact onClick={() => setAsked("add")}>Add module</Button>
          {shown.text !== undefined && <Button compact onClick={() => setAsked("change")}>Rename</Button>}
          {!isMain && shown.contentType === moduleTypes.esm && <Button compact onClick={() => props.onMain(shown)}>Make it the main module</Button>}
          {!isMain && shown.text !== undefined && <Button compact onClick={() => setAsked("delete")}>Delete</Button>}
        </div>
      )}
      {asked === "add" && <NameDialog title="Add a module" action="Add" name="" others={names} onClose={close} onDone={(name, type) => { props.onAdd(name, type); close(); }} />}
      {asked === "change" && (
        <NameDialog title={`Rename ${shown.name}`} action="Rename" name={shown.name} contentType={shown.contentType} main={isMain} others={names.filter((n) => n !== shown.name)} onClose={close}
          onDone={(name, contentType) => { props.onChange(shown, { name, contentType }); close(); }} />
      )}
      {asked === "delete" && (
        <Confirm title={`Delete ${shown.name}?`} action={`Delete ${shown.name}`} danger onClose={close} onConfirm={() => { props.onDelete(shown); close(); }}>
          <p>The new version will not have it. Versions that were saved before keep theirs.</p>
        </Confirm>
      )}
    </div>
  );
}

function TabList(props: Props) {
  const { work, shown, panel } = props;
  const list = useRef<HTMLDivElement>(null);
  const move = (event: KeyboardEvent): void => {
    const at = work.sheets.indexOf(shown), last = work.sheets.length - 1;
    const to = { ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at === 0 ? last : at - 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    props.onShow(work.sheets[to]!);
    list.current?.querySelectorAll<HTMLElement>("[role=tab]")[to]?.focus();
  };
  return (
    <div class="code-tabs" role="tablist" aria-label="Modules" ref={list} onKeyDown={move}>
      {work.sheets.map((s) => (
        <button key={s.id} type="button" role="tab" id={`${panel}-${s.id}`} aria-selected={s === shown} aria-controls={panel} tabIndex={s === shown ? 0 : -1} onClick={() => props.onShow(s)}>
          <code>{s.name}</code>
          {mainOf(work) === s && <Badge tone="accent">main</Badge>}
          {s.text === undefined && <span class="quiet small">{formatBytes(s.was!.bytes.length)}</span>}
          {props.wrong.has(s.id) && <span class="code-wrong">error</span>}
          {props.edited.has(s.id) && <span class="quiet small">edited</span>}
        </button>
      ))}
    </div>
  );
}

const choices = [moduleTypes.esm, moduleTypes.commonJS, moduleTypes.text].map((type) => [type, typeName(type)] as const);

function NameDialog(props: { title: string; action: string; name: string; contentType?: string; main?: boolean; others: string[]; onClose: () => void; onDone: (name: string, contentType: string) => void }) {
  const [name, setName] = useState(props.name);
  const [type, setType] = useState(props.contentType);
  const [tried, setTried] = useState(false);
  const problem = nameProblem(name.trim(), props.others);
  const contentType = type ?? typeOfName(name.trim());
  const submit = (event: Event): void => {
    event.preventDefault();
    setTried(true);
    if (!problem) props.onDone(name.trim(), contentType);
  };
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <form class="stack" onSubmit={submit}>
        <TextField label="Name" mono value={name} onInput={setName} autoFocus error={tried ? problem : undefined} placeholder="lib/util.js"
          hint="As other modules import it. Folders are part of it." />
        {!props.main && <SelectField label="Type" value={contentType} options={choices} onChange={setType} hint="A text is imported as a string, whatever the end of its name, .json too." />}
        <div class="actions">
          <Button onClick={props.onClose}>Cancel</Button>
          <Button look="primary" submit>{props.action}</Button>
        </div>
      </form>
    </Dialog>
  );
}
