// What somebody typed and did not save lies in the session storage of the browser's tab, and
// nowhere else. So it survives a reload, a wrong click and the end of a session.

const prefix = "tidegate.draft";

/** Below the prefix of all drafts. */
export function draftKey(...parts: string[]): string {
  return [prefix, ...parts].join(".");
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
export function keepDraft(storage: Storage | undefined, key: string, draft: unknown): boolean {
  if (!storage) return false;
  try {
    storage.setItem(key, JSON.stringify(draft));
    return true;
  } catch {
    dropDraft(storage, key); // an older one would be brought back in its place
    return false;
  }
}

export function dropDraft(storage: Storage | undefined, key: string): void {
  storage?.removeItem(key);
}

/** The draft, if there is one of this shape: an older dashboard may have kept another. */
export function findDraft<T>(storage: Storage | undefined, key: string, fits: (draft: T) => boolean): T | undefined {
  const text = storage?.getItem(key);
  if (!text) return undefined;
  try {
    const draft = JSON.parse(text) as T;
    return fits(draft) ? draft : undefined;
  } catch {
    return undefined;
  }
}

/** Drops all drafts, of every page. */
export function dropDrafts(storage: Storage | undefined): void {
  const names = Array.from({ length: storage?.length ?? 0 }, (_, i) => storage!.key(i)!);
  for (const name of names) if (name.startsWith(`${prefix}.`)) storage!.removeItem(name);
}

/** Drafts of this tab are for who made them: another one who signs in here finds none. */
export function ownDrafts(storage: Storage | undefined, who: string): void {
  const key = "tidegate.drafts-of";
  const before = storage?.getItem(key);
  if (before === who) return;
  if (before) dropDrafts(storage);
  try {
    storage?.setItem(key, who);
  } catch {
    dropDrafts(storage); // it is full, and nobody could tell whose they are
  }
}
