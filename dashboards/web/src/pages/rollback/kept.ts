// What was edited in a policy and not saved: one draft for each policy.
import { draftKey } from "../../lib/drafts";
import type { Held, Owner } from "./api";
import { isDraft, type Draft } from "./draft";

export interface Kept {
  /** The policy as it was when the fields were filled. */
  held: Held;
  draft: Draft;
}

/** Where the draft of a policy is kept. No account's id is "policy". */
export function keyOf({ account, script }: Owner): string {
  return draftKey("policy", account, script ?? "");
}

export function isKept(kept: Kept): boolean {
  return typeof kept.held.etag === "string" && isDraft(kept.draft);
}

/**
 * The draft without addresses and secrets of who is told. What the API shows of them has *** in it;
 * one without was typed here, and is for nobody else.
 */
export function withoutSecrets(draft: Draft): Draft {
  const shown = (text: string): string => (text.includes("***") ? text : "");
  return { ...draft, notify: draft.notify.map((t) => ({ ...t, url: shown(t.url), secret: shown(t.secret) })) };
}
