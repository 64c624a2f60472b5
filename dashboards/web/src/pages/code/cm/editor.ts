// The editor: one view, and for each module a state with its own history of changes.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { lintGutter, lintKeymap, setDiagnostics } from "@codemirror/lint";
import { Compartment, EditorState, type Extension, type StateEffect, type Text, type TransactionSpec } from "@codemirror/state";
import { EditorView, crosshairCursor, dropCursor, highlightActiveLine, highlightActiveLineGutter, keymap, rectangularSelection } from "@codemirror/view";
import { rangeOf, type Diagnostic, type Place } from "../diagnostics";
import { languageOf, lineEnd } from "../modules";
import { common, languageSupport, rootOf } from "./setup";

/** A text that can be opened. Its id stays when its name changes. */
export interface Openable {
  id: number;
  name: string;
  contentType: string;
  text: string;
  /** What its text is compared with, until settle(). */
  begun: string;
}

export interface EditorEvents {
  /** After every change of a text; `changed` says whether it differs from what settle() was last given. */
  onEdit: (id: number, changed: boolean) => void;
  /** Ctrl+S or Cmd+S. */
  onSave: () => void;
}

interface Opened {
  state: EditorState;
  settled: Text;
  scroll: StateEffect<unknown> | undefined;
  named: Compartment;
}

export class CodeEditor {
  private readonly view: EditorView;
  private readonly opened = new Map<number, Opened>();
  private shown: number | undefined;

  constructor(host: HTMLElement, private readonly events: EditorEvents, private readonly readOnly: boolean) {
    const root = rootOf(host);
    this.view = new EditorView({ root, parent: root });
  }

  show(module: Openable): void {
    if (this.shown === module.id) return;
    this.leave();
    const next = this.opened.get(module.id) ?? this.open(module);
    this.shown = module.id;
    this.view.setState(next.state);
    if (next.scroll) this.view.dispatch({ effects: next.scroll });
  }

  /** Takes a new name over, which may be another language. */
  rename(module: Openable): void {
    const one = this.opened.get(module.id);
    if (one) this.update(module.id, { effects: one.named.reconfigure(named(module)) });
  }

  forget(id: number): void {
    if (this.shown === id) {
      this.shown = undefined;
      this.view.setState(EditorState.create());
    }
    this.opened.delete(id);
  }

  /** The text of a module with its changes; undefined for one that was never shown. */
  text(id: number): string | undefined {
    return this.stateOf(id)?.sliceDoc();
  }

  /** Takes these texts as what modules are compared with, and returns the ids of all that differ now. */
  settle(texts: ReadonlyMap<number, string>): Set<number> {
    const differ = new Set<number>();
    for (const [id, one] of this.opened) {
      const state = this.stateOf(id)!;
      const text = texts.get(id);
      if (text !== undefined) one.settled = state.toText(text);
      if (!state.doc.eq(one.settled)) differ.add(id);
    }
    return differ;
  }

  /** Shows diagnostics in the module, instead of those that were shown before. */
  diagnose(module: Openable, diagnostics: Diagnostic[]): void {
    if (!this.opened.has(module.id)) {
      if (diagnostics.length === 0) return;
      this.open(module);
    }
    const state = this.stateOf(module.id)!;
    this.update(module.id, setDiagnostics(state, diagnostics.map((d) => ({
      ...within(d.places.find((p) => p.module === module.name)!, state), severity: "error", source: "Workers runtime", message: d.message,
    }))));
  }

  /** Moves to a place of the module that is shown. */
  go(place: Place): void {
    const { from } = within(place, this.view.state);
    this.view.dispatch({ selection: { anchor: from }, effects: EditorView.scrollIntoView(from, { y: "center" }) });
    this.view.focus();
  }

  destroy(): void {
    this.view.destroy();
  }

  private open(module: Openable): Opened {
    const languages = new Compartment();
    const state = EditorState.create({ doc: module.text, extensions: [languages.of(named(module)), this.extensions(module)] });
    const one: Opened = { state, settled: state.toText(module.begun), scroll: undefined, named: languages };
    this.opened.set(module.id, one);
    return one;
  }

  private stateOf(id: number): EditorState | undefined {
    return this.shown === id ? this.view.state : this.opened.get(id)?.state;
  }

  private update(id: number, spec: TransactionSpec): void {
    const one = this.opened.get(id)!;
    if (this.shown === id) this.view.dispatch(spec);
    else one.state = one.state.update(spec).state;
  }

  private leave(): void {
    const one = this.shown === undefined ? undefined : this.opened.get(this.shown);
    if (one) {
      one.state = this.view.state;
      one.scroll = this.view.scrollSnapshot();
    }
  }

  private extensions(module: Openable): Extension[] {
    const end = lineEnd(module.text);
    return [
      ...common(module.text), EditorState.readOnly.of(this.readOnly), history(), dropCursor(), EditorState.allowMultipleSelections.of(true), closeBrackets(), autocompletion(),
      rectangularSelection(), crosshairCursor(), highlightActiveLine(), highlightActiveLineGutter(), lintGutter(),
      EditorView.clipboardInputFilter.of((text) => text.replace(/\r\n?|\n/g, end)),
      EditorView.updateListener.of((u) => {
        if (u.docChanged) this.events.onEdit(module.id, !u.state.doc.eq(this.opened.get(module.id)!.settled));
      }),
      keymap.of([
        { key: "Mod-s", preventDefault: true, run: () => (this.events.onSave(), true) },
        ...closeBracketsKeymap, ...defaultKeymap, ...historyKeymap, ...completionKeymap, ...lintKeymap, indentWithTab,
      ]),
    ];
  }
}

function named(module: Openable): Extension {
  return [languageSupport(languageOf(module.name, module.contentType)), EditorView.contentAttributes.of({ "aria-label": `Code of ${module.name}` })];
}

/** The range of a place in a document, whose positions count each end of a line as one. */
function within(place: Place, state: EditorState): { from: number; to: number } {
  return rangeOf(place, state.doc.toString());
}
