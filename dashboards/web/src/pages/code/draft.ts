// Unsaved work survives a reload and a wrong click: it lies in the session storage of the
// browser's tab, one draft for each version that somebody edits there, and nowhere else.

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

const prefix = "tidegate.draft";

function keyOf(k: DraftKey): string {
  return [prefix, k.account, k.script, k.version].join(".");
}

/** The storage; undefined where the browser lets pages keep nothing. */
export function tabStorage(): Storage | undefined {
  try {
    return sessionStorage;
  } catch {
    return undefined;
  }
}

/** Keeps a draft and returns whether there was room for it. */
export function keepDraft(storage: Storage | undefined, key: DraftKey, draft: Draft): boolean {
  if (!storage) return false;
  try {
    storage.setItem(keyOf(key), JSON.stringify(draft));
    return true;
  } catch {
    dropDraft(storage, key); // an older one would be restored in its place
    return false;
  }
}

export function dropDraft(storage: Storage | undefined, key: DraftKey): void {
  storage?.removeItem(keyOf(key));
}

/** Drops the drafts of all scripts. */
export function dropDrafts(storage: Storage | undefined): void {
  const names = Array.from({ length: storage?.length ?? 0 }, (_, i) => storage!.key(i)!);
  for (const name of names) if (name.startsWith(`${prefix}.`)) storage!.removeItem(name);
}

export function findDraft(storage: Storage | undefined, key: DraftKey): Draft | undefined {
  return parseDraft(storage?.getItem(keyOf(key)));
}

/** Drafts of other versions of the script. */
export function otherDrafts(storage: Storage | undefined, key: DraftKey): { version: string; draft: Draft }[] {
  const start = keyOf({ ...key, version: "" });
  const found: { version: string; draft: Draft }[] = [];
  for (let i = 0; i < (storage?.length ?? 0); i++) {
    const name = storage!.key(i)!;
    if (!name.startsWith(start) || name === keyOf(key)) continue;
    const draft = parseDraft(storage!.getItem(name));
    if (draft) found.push({ version: name.slice(start.length), draft });
  }
  return found;
}

function parseDraft(text: string | null | undefined): Draft | undefined {
  if (!text) return undefined;
  try {
    const draft = JSON.parse(text) as Draft;
    return Array.isArray(draft.modules) && typeof draft.main === "string" ? draft : undefined;
  } catch {
    return undefined; // an older dashboard may have kept another shape
  }
}
