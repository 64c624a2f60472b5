// Keeps unsaved work as a draft while it is worked on.
import { useEffect, useRef, useState } from "preact/hooks";
import { dropDraft, keepDraft, tabStorage } from "../../lib/drafts";
import type { ScriptName } from "./data";
import { keyOf } from "./draft";
import type { Version } from "./settings";
import type { EditorState } from "./useeditor";
import { draftOf, type Work } from "./work";

/** Short enough to lose little, long enough not to write with every key. */
const pauseMS = 500;

/** Returns whether the draft is kept, as far as is known. */
export function useDraft(at: ScriptName, base: Version, work: Work, editor: EditorState, unsaved: boolean): boolean {
  const [kept, setKept] = useState(true);
  const waiting = useRef<(() => void) | undefined>(undefined);
  useEffect(() => {
    const storage = tabStorage();
    const key = keyOf({ ...at, version: base.id });
    const write = (): void => {
      waiting.current = undefined;
      if (unsaved) setKept(keepDraft(storage, key, draftOf(work, editor.text, base)));
      else dropDraft(storage, key);
    };
    waiting.current = write;
    const timer = setTimeout(write, pauseMS);
    return () => clearTimeout(timer);
  }, [base.id, work, editor.edits, unsaved]);
  useEffect(() => {
    const now = (): void => waiting.current?.();
    addEventListener("pagehide", now);
    return () => {
      removeEventListener("pagehide", now);
      now();
    };
  }, []);
  return kept;
}
