// An unsaved form survives an ended session, a reload and a wrong click: it lies in the
// session storage of the browser's tab, without credentials, and nowhere else.
import { useEffect, useRef, useState } from "preact/hooks";
import { tabStorage } from "../code/draft";
import { withoutCredentials } from "./destination";
import { newDraft, type Draft } from "./draft";

export interface Kept {
  at: string;
  draft: Omit<Draft, "conf" | "challenge">;
  /** Where it was changed: what may be kept of it. */
  conf?: string;
  /** Whether something that was entered is not kept. */
  lacking: boolean;
  /** Of the job that the form began with. */
  etag?: string | undefined;
}

// What begins with tidegate.draft goes when somebody signs out.
const keyOf = (account: string, id: string | undefined): string => ["tidegate.draft.logpush", account, id ?? "new"].join(".");

/** What is kept of a form that began with other values. */
export function keptOf(draft: Draft, clean: Draft, etag: string | undefined, at: Date): Kept {
  const { conf, challenge, ...rest } = draft;
  const kept = withoutCredentials(conf);
  return { at: at.toISOString(), draft: rest, etag, ...(conf === clean.conf ? { lacking: challenge !== "" } : { conf: kept, lacking: kept !== conf || challenge !== "" }) };
}

/** The form's values again; `clean` are those that it began with. */
export function draftOfKept(kept: Kept, clean: Draft): Draft {
  return { ...clean, ...kept.draft, conf: kept.conf ?? clean.conf, challenge: "" };
}

export function findKept(storage: Storage | undefined, account: string, id: string | undefined): Kept | undefined {
  try {
    const kept = JSON.parse(storage?.getItem(keyOf(account, id)) ?? "null") as Kept | null;
    // An older dashboard may have kept another shape.
    const { conf: _, challenge: __, ...members } = newDraft();
    return kept && typeof kept.draft === "object" && Object.keys(members).every((name) => name in kept.draft) ? kept : undefined;
  } catch {
    return undefined;
  }
}

/** Keeps a form, or drops what was kept of it; returns whether that worked. */
export function keepForm(storage: Storage | undefined, account: string, id: string | undefined, kept: Kept | undefined): boolean {
  const key = keyOf(account, id);
  try {
    storage?.removeItem(key); // an older one would be brought back if there is no room
    if (kept) storage?.setItem(key, JSON.stringify(kept));
    return storage !== undefined;
  } catch {
    return false;
  }
}

/** Short enough to lose little, long enough not to write with every key. */
const pauseMS = 500;

/** Keeps a form while it is filled in; undefined: there is nothing to keep. Returns whether it is kept, as far as is known. */
export function useKept(account: string, id: string | undefined, kept: () => Kept | undefined, changes: unknown[]): boolean {
  const [works, setWorks] = useState(true);
  const latest = useRef(kept);
  latest.current = kept;
  const write = (): boolean => keepForm(tabStorage(), account, id, latest.current());
  useEffect(() => {
    const timer = setTimeout(() => setWorks(write()), pauseMS);
    return () => clearTimeout(timer);
  }, changes);
  useEffect(() => {
    addEventListener("pagehide", write);
    return () => {
      removeEventListener("pagehide", write);
      write();
    };
  }, []);
  return works;
}
