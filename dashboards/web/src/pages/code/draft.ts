// Unsaved work on code: one draft for each version that somebody edits.
import { draftKey, findDraft } from "../../lib/drafts";

export interface DraftModule {
  name: string;
  contentType: string;
  /** The text; left out for a module that stays as it is in the version. */
  text?: string;
  /** Its name in the version, if it has a module that this one was. */
  was?: string;
}

export interface Draft {
  at: string;
  /** What the version was called, for people. */
  version: string;
  modules: DraftModule[];
  main: string;
  compatibilityDate: string;
  compatibilityFlags: string;
  tag: string;
  message: string;
}

export interface DraftKey {
  account: string;
  script: string;
  version: string;
}

/** Where the draft of a version is kept. */
export function keyOf(k: DraftKey): string {
  return draftKey(k.account, k.script, k.version);
}

export function isDraft(draft: Draft): boolean {
  return Array.isArray(draft.modules) && typeof draft.main === "string";
}

/** Drafts of other versions of the script. */
export function otherDrafts(storage: Storage | undefined, key: DraftKey): { version: string; draft: Draft }[] {
  const start = keyOf({ ...key, version: "" });
  const found: { version: string; draft: Draft }[] = [];
  for (let i = 0; i < (storage?.length ?? 0); i++) {
    const name = storage!.key(i)!;
    if (!name.startsWith(start) || name === keyOf(key)) continue;
    const draft = findDraft(storage, name, isDraft);
    if (draft) found.push({ version: name.slice(start.length), draft });
  }
  return found;
}
