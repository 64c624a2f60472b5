// What was edited in a policy and not saved lies in the session storage of the browser's tab,
// so that neither the end of a session nor the way back in the history takes it away.
import type { Held, Owner } from "./api";
import { isDraft, type Draft } from "./draft";

export interface Kept {
  /** The policy as it was when the fields were filled. */
  held: Held;
  draft: Draft;
}

/** Below the prefix of all drafts, which go when somebody signs out. No account's id is "policy". */
function keyOf({ account, script }: Owner): string {
  return ["tidegate.draft.policy", account, script ?? ""].join(".");
}

/** What the API shows of an address or a secret has *** in it; one without was typed here, and is for nobody else. */
function withoutSecrets(draft: Draft): Draft {
  const shown = (text: string): string => (text.includes("***") ? text : "");
  return { ...draft, notify: draft.notify.map((t) => ({ ...t, url: shown(t.url), secret: shown(t.secret) })) };
}

/** Returns whether there was room for it. Addresses and secrets of who is told are left out, unless they are masked. */
export function keepEdits(storage: Storage | undefined, owner: Owner, kept: Kept): boolean {
  try {
    storage?.setItem(keyOf(owner), JSON.stringify({ ...kept, draft: withoutSecrets(kept.draft) }));
    return storage !== undefined;
  } catch {
    dropEdits(storage, owner); // older ones would be brought back in their place
    return false;
  }
}

export function dropEdits(storage: Storage | undefined, owner: Owner): void {
  storage?.removeItem(keyOf(owner));
}

export function findEdits(storage: Storage | undefined, owner: Owner): Kept | undefined {
  try {
    const kept = JSON.parse(storage?.getItem(keyOf(owner)) ?? "") as Kept;
    return typeof kept.held.etag === "string" && isDraft(kept.draft) ? kept : undefined;
  } catch {
    return undefined; // there are none, or an older dashboard kept another shape
  }
}
