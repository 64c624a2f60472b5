// The editor with everything around it: what is edited, what the runtime says of it, and
// what it is saved as.
import { useEffect, useId, useState } from "preact/hooks";
import { formatBytes } from "../../lib/format";
import { useSearch } from "../../lib/url";
import { may } from "../../session";
import { Note, Problem } from "../../ui/basics";
import { LeaveGuard } from "../../ui/leave";
import type { ScriptName } from "./data";
import { DiagnosticList } from "./diagnosticlist";
import type { Place } from "./diagnostics";
import { isTemplate } from "./first";
import { ModuleTabs } from "./moduletabs";
import { typeName } from "./modules";
import { Saved, Standing } from "./news";
import { SavePanel } from "./savepanel";
import type { Version } from "./settings";
import { useDraft } from "./usedraft";
import { useEditor } from "./useeditor";
import { useSave } from "./usesave";
import { afterSave, changedFrom, mainOf, nextId, type Sheet, type Work } from "./work";

interface Props {
  at: ScriptName;
  version: Version;
  /** The version as it is, and what the editor begins with. */
  clean: Work;
  begin: Work;
  onSaved: (id: string) => void;
}

export function Workbench(props: Props) {
  const { at } = props;
  const search = useSearch();
  const panel = useId();
  const readOnly = !may("scripts:edit") || props.version.main_module === undefined;
  const [clean, setClean] = useState(props.clean);
  const [work, setWork] = useState(props.begin);
  const change = (changes: Partial<Work>): void => setWork((w) => ({ ...w, ...changes }));
  const editor = useEditor(work, clean, readOnly, () => { if (savable) void save.run(); });
  const [shownId, setShownId] = useState(() => (work.sheets.find((s) => s.name === search.get("module")) ?? mainOf(work)).id);
  const shown = work.sheets.find((s) => s.id === shownId) ?? mainOf(work);
  const unsaved = !readOnly && (changedFrom(clean, work) || editor.edited.size > 0);

  const save = useSave({
    at, version: props.version, work, text: editor.text,
    onSaved: (settled, id) => {
      editor.settle(settled.sheets);
      setWork((now) => afterSave(work, settled, now));
      setClean(settled);
      props.onSaved(id);
    },
  });
  // The template is worth saving as it is.
  const savable = unsaved || (!readOnly && isTemplate(save.base));
  const kept = useDraft(at, save.base, work, editor, unsaved);

  const show = (sheet: Sheet): void => {
    setShownId(sheet.id);
    search.set({ module: sheet.id === work.main ? undefined : sheet.name }, "replace");
  };
  const go = (place: Place): void => {
    const sheet = work.sheets.find((s) => s.name === place.module);
    if (!sheet) return;
    show(sheet);
    editor.show(sheet);
    editor.go(place);
  };
  useEffect(() => editor.show(shown), [editor.ready, shown.id]);
  useEffect(() => editor.diagnose(save.diagnostics), [editor.ready, save.diagnostics]);

  return (
    <div class="stack">
      <LeaveGuard unsaved={unsaved}>
        Your changes are in no version yet. {kept ? "This browser tab keeps them as a draft, and offers it when you edit this version again." : "They are too large to be kept as a draft, and would be lost."}
      </LeaveGuard>
      {props.version.main_module === undefined && <Note tone="warn">This script is in service-worker syntax, which cannot be saved as a version that is not deployed. Deploy it with <code>wrangler deploy</code>, or rewrite it as an ES module there.</Note>}
      {!may("scripts:edit") && <Note>Your token may read code, and not change it: that takes the scope <code>scripts:edit</code>.</Note>}
      <Standing at={at} base={save.base} newest={save.newest} late={save.late} />
      {!kept && unsaved && <Note tone="warn">The browser has no room for a draft of this: save it before you leave.</Note>}
      <Saved at={at} saved={save.saved} />
      {save.diagnostics.length > 0 ? <DiagnosticList diagnostics={save.diagnostics} onGo={go} /> : <Problem error={save.error} what={save.saved ? "It is saved, but not deployed." : "Nothing was saved."} />}
      <div class="code-bench">
        <div class="code-editor">
          <ModuleTabs work={work} shown={shown} edited={editor.edited} wrong={wrongOf(work, save.diagnostics)} readOnly={readOnly} panel={panel} onShow={show}
            onMain={(s) => change({ main: s.id })}
            onAdd={(name, contentType) => {
              const sheet: Sheet = { id: nextId(work, clean), name, contentType, text: "", was: undefined };
              change({ sheets: [...work.sheets, sheet] });
              show(sheet);
            }}
            onChange={(s, changes) => {
              change({ sheets: work.sheets.map((o) => (o.id === s.id ? { ...o, ...changes } : o)) });
              editor.rename({ ...s, ...changes });
              show({ ...s, ...changes });
            }}
            onDelete={(s) => {
              change({ sheets: work.sheets.filter((o) => o.id !== s.id) });
              editor.forget(s.id);
              show(mainOf(work));
            }} />
          <div role="tabpanel" id={panel} aria-labelledby={`${panel}-${shown.id}`}>
            <div class="code-host code-edited" ref={editor.host} hidden={shown.text === undefined} />
            {shown.text === undefined && <p class="code-bytes quiet">{typeName(shown.contentType)}, {formatBytes(shown.was!.bytes.length)}. It is not text: the new version keeps it as it is.</p>}
            <Problem error={editor.error} what="The editor could not be loaded." />
          </div>
          <Keys />
        </div>
        <SavePanel at={at} base={save.base} newest={save.newest ?? save.base} work={work} savable={savable} busy={save.busy} readOnly={readOnly} onChange={change}
          onSave={() => void save.run()} onDeploy={(deployment) => void save.run({ over: deployment })} />
      </div>
    </div>
  );
}

function wrongOf(work: Work, diagnostics: { places: Place[] }[]): Set<number> {
  const names = new Set(diagnostics.flatMap((d) => d.places.slice(0, 1).map((p) => p.module)));
  return new Set(work.sheets.filter((s) => names.has(s.name)).map((s) => s.id));
}

function Keys() {
  return (
    <p class="small quiet">
      In the editor Tab indents. To leave it with the keyboard, press <kbd>Escape</kbd> and then <kbd>Tab</kbd>; <kbd>Ctrl</kbd> <kbd>M</kbd> (on a Mac <kbd>Shift</kbd> <kbd>Alt</kbd> <kbd>M</kbd>) makes Tab move the focus until it is pressed again.{" "}
      <kbd>Ctrl</kbd> <kbd>F</kbd> searches, <kbd>Ctrl</kbd> <kbd>Z</kbd> undoes, <kbd>Ctrl</kbd> <kbd>S</kbd> saves as a new version.
    </p>
  );
}
