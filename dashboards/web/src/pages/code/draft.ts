// Unsaved work survives a reload and a wrong click: it lies in the session storage of the
// browser's tab, one draft for each version that somebody edits there, and nowhere else.

export interface DraftModule {
  name: string;
  contentType: string;
  /** The text; left out for a module that stays as it is in the version. */
  text?: string;
  /** Its name in the version, for a module that stays as it is. */
  kept?: string;
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

const prefix = "tidegate.draft";

function keyOf(k: DraftKey): string {
  return [prefix, k.account, k.script, k.version].join(".");
}

/** Keeps a draft and returns whether there was room for it. */
export function keepDraft(storage: Storage, key: DraftKey, draft: Draft): boolean {
  try {
    storage.setItem(keyOf(key), JSON.stringify(draft));
    return true;
  } catch {
    dropDraft(storage, key); // an older one would be restored in its place
    return false;
  }
}

export function dropDraft(storage: Storage, key: DraftKey): void {
  try {
    storage.removeItem(keyOf(key));
  } catch {
    // Storage is off: there is none.
  }
}

export function findDraft(storage: Storage, key: DraftKey): Draft | undefined {
  try {
    return parseDraft(storage.getItem(keyOf(key)));
  } catch {
    return undefined;
  }
}

/** Drafts of other versions of the script, by version. */
export function otherDrafts(storage: Storage, key: DraftKey): { version: string; draft: Draft }[] {
  const start = keyOf({ ...key, version: "" });
  const found: { version: string; draft: Draft }[] = [];
  try {
    for (let i = 0; i < storage.length; i++) {
      const name = storage.key(i)!;
      if (!name.startsWith(start) || name === keyOf(key)) continue;
      const draft = parseDraft(storage.getItem(name));
      if (draft) found.push({ version: name.slice(start.length), draft });
    }
  } catch {
    // As above.
  }
  return found;
}

function parseDraft(text: string | null): Draft | undefined {
  if (text === null) return undefined;
  const draft = JSON.parse(text) as Draft;
  return Array.isArray(draft.modules) && typeof draft.main === "string" ? draft : undefined;
}
