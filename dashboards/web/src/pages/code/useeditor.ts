// The editor of a workbench. CodeMirror is loaded when it is first needed.
import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { CodeEditor, Openable } from "./cm/editor";
import type { Diagnostic, Place } from "./diagnostics";
import { textOf } from "./modules";
import type { Sheet, TextOf, Work } from "./work";

export interface EditorState {
  host: RefObject<HTMLDivElement | null>;
  ready: boolean;
  error: unknown;
  /** Ids of the sheets whose text is not that of the version. */
  edited: ReadonlySet<number>;
  /** Counts the changes of texts. */
  edits: number;
  text: TextOf;
  show: (sheet: Sheet) => void;
  rename: (sheet: Sheet) => void;
  forget: (id: number) => void;
  /** Takes the texts of sheets as those of the version, and what was typed since as edits. */
  settle: (sheets: readonly Sheet[]) => void;
  diagnose: (diagnostics: Diagnostic[]) => void;
  go: (place: Place) => void;
}

function begunOf(sheet: Sheet): string {
  return (sheet.was && textOf(sheet.was)) ?? "";
}

function openable(sheet: Sheet): Openable {
  return { id: sheet.id, name: sheet.name, contentType: sheet.contentType, text: sheet.text ?? "", begun: begunOf(sheet) };
}

export function useEditor(work: Work, clean: Work, readOnly: boolean, onSave: () => void): EditorState {
  const host = useRef<HTMLDivElement>(null);
  const editor = useRef<CodeEditor | undefined>(undefined);
  const save = useRef(onSave);
  save.current = onSave;
  const [ready, setReady] = useState(false);
  const [error, setError] = useState<unknown>();
  const [edits, setEdits] = useState(0);
  // A restored draft begins with texts that are none of the version.
  const [edited, setEdited] = useState<ReadonlySet<number>>(() => (work === clean ? new Set() : new Set(work.sheets.filter((s) => s.text !== undefined && s.text !== begunOf(s)).map((s) => s.id))));

  useEffect(() => {
    let gone = false;
    import("./cm/editor").then((cm) => {
      if (gone) return;
      editor.current = new cm.CodeEditor(host.current!, {
        onEdit: (id, changed) => {
          setEdits((n) => n + 1);
          setEdited((ids) => (ids.has(id) === changed ? ids : changed ? new Set([...ids, id]) : new Set([...ids].filter((i) => i !== id))));
        },
        onSave: () => save.current(),
      }, readOnly);
      setReady(true);
    }).catch(setError);
    return () => {
      gone = true;
      editor.current?.destroy();
    };
  }, []);

  return {
    host, ready, error, edited, edits,
    text: (s) => editor.current?.text(s.id) ?? s.text ?? "",
    show: (s) => {
      if (s.text !== undefined) editor.current?.show(openable(s));
    },
    rename: (s) => editor.current?.rename(openable(s)),
    forget: (id) => {
      editor.current?.forget(id);
      setEdited((ids) => new Set([...ids].filter((i) => i !== id)));
    },
    settle: (sheets) => {
      const texts = new Map(sheets.flatMap((s): [number, string][] => (s.text === undefined ? [] : [[s.id, s.text]])));
      setEdited(editor.current?.settle(texts) ?? new Set<number>());
    },
    diagnose: (diagnostics) => {
      for (const s of work.sheets) {
        if (s.text !== undefined) editor.current?.diagnose(openable(s), diagnostics.filter((d) => d.places.some((p) => p.module === s.name)));
      }
    },
    go: (place) => editor.current?.go(place),
  };
}
