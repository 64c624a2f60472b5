// An unsaved form, without its credentials: one draft for each job, and one for a new one.
import { useEffect, useRef, useState } from "preact/hooks";
import { draftKey, dropDraft, keepDraft, tabStorage } from "../../lib/drafts";
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

/** Where the draft of a job's form is kept. No account's id is "logpush". */
export const keyOf = (account: string, id: string | undefined): string => draftKey("logpush", account, id ?? "new");

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

// An older dashboard may have kept another shape.
export function isKept(kept: Kept): boolean {
  const { conf: _, challenge: __, ...members } = newDraft();
  return typeof kept.draft === "object" && Object.keys(members).every((name) => name in kept.draft);
}

/** Short enough to lose little, long enough not to write with every key. */
const pauseMS = 500;

/** Keeps a form while it is filled in; undefined: there is nothing to keep. Returns whether it is kept, as far as is known. */
export function useKept(account: string, id: string | undefined, kept: () => Kept | undefined, changes: unknown[]): boolean {
  const [works, setWorks] = useState(true);
  const latest = useRef(kept);
  latest.current = kept;
  const write = (): boolean => {
    const [now, key] = [latest.current(), keyOf(account, id)];
    if (now) return keepDraft(tabStorage(), key, now);
    dropDraft(tabStorage(), key);
    return true;
  };
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
