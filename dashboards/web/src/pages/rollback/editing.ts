// A policy that is being edited: what is held, what stands in the fields, and what
// happens when somebody else saves meanwhile.
import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import { ApiError } from "../../api/client";
import { dropDraft, findDraft, keepDraft, tabStorage } from "../../lib/drafts";
import { useAction, useQuery, type Action } from "../../lib/query";
import { toast } from "../../ui/toast";
import { deletePolicy, readPolicy, savePolicy, type Held, type Owner } from "./api";
import { draftOf, newPolicy, policyOf, same, type Draft, type FieldErrors } from "./draft";
import { isKept, keyOf, withoutSecrets } from "./kept";
import type { Settings } from "./limits";

export interface Editing {
  owner: Owner;
  /** undefined until it was read. */
  held: Held | undefined;
  error: unknown;
  reload: () => void;
  draft: Draft;
  set: (changes: Partial<Draft>) => void;
  /** What the fields say now. */
  policy: Settings;
  /** Whether that is another policy than the one that is held. */
  changed: boolean;
  /** Whether a field says something else than that policy. */
  unsaved: boolean;
  /** Whether the browser's tab keeps that, as far as is known. */
  kept: boolean;
  /** What the tab kept stands in the fields. */
  broughtBack: boolean;
  errors: FieldErrors;
  /** Puts a policy into the fields. */
  load: (policy: Settings) => void;
  /** What somebody else saved since the fields were filled. */
  conflict: Held | undefined;
  /** Goes on from what somebody else saved: with theirs, or with mine on top of it. */
  resolve: (take: "theirs" | "mine") => void;
  save: Action<[]>;
  remove: Action<[]>;
}

/** Whether the policy that is held is the owner's own, and not the account's for a script. */
export function isOwn(owner: Owner, held: Held | undefined): boolean {
  return held?.policy != null && (owner.script === undefined || held.policy.source === "script");
}

export function useEditing(owner: Owner): Editing {
  const key = `policy ${owner.account} ${owner.script ?? ""}`;
  const answer = useQuery(key, (signal) => readPolicy(owner, signal));
  const [base, setBase] = useState<Held | undefined>();
  const [draft, setDraft] = useState<Draft>(() => draftOf(newPolicy));
  const [refused, setRefused] = useState<FieldErrors>({});
  const [conflict, setConflict] = useState<Held | undefined>();
  const [kept, setKept] = useState(true);
  const [broughtBack, setBroughtBack] = useState(false);

  const begin = (held: Held): void => {
    setBase(held);
    setDraft(draftOf(held.policy ?? newPolicy));
    setRefused({});
    setConflict(undefined);
    setBroughtBack(false);
  };
  useEffect(() => setBase(undefined), [key]);
  useEffect(() => {
    if (!answer.data) return;
    begin(answer.data);
    const edits = findDraft(tabStorage(), keyOf(owner), isKept);
    if (!edits) return;
    setBase(edits.held);
    setDraft(edits.draft);
    setBroughtBack(true);
    if (edits.held.etag !== answer.data.etag) setConflict(answer.data);
  }, [answer.data]);

  const unsaved = base !== undefined && JSON.stringify(draft) !== JSON.stringify(draftOf(base.policy ?? newPolicy));
  useLayoutEffect(() => {
    if (!base) return;
    if (unsaved) setKept(keepDraft(tabStorage(), keyOf(owner), { held: base, draft: withoutSecrets(draft) }));
    else dropDraft(tabStorage(), keyOf(owner));
  }, [base, draft, unsaved]);

  const { policy, errors } = policyOf(draft);
  const save = useAction(async () => {
    setRefused({});
    if (Object.keys(errors).length > 0) throw new Error("Some fields are no numbers: mend what is marked.");
    try {
      const saved = await savePolicy(owner, policy, base!.etag);
      begin({ policy: saved, etag: `"${saved.revision}"` });
      toast(`Saved as revision ${saved.revision}.`);
    } catch (error) {
      if (error instanceof ApiError && error.status === 412) {
        setConflict(await readPolicy(owner));
        return;
      }
      setRefused(pointers(error));
      throw error;
    }
  });
  const remove = useAction(async () => {
    await deletePolicy(owner, base!.etag);
    begin(await readPolicy(owner));
    toast("The policy is deleted.");
  });

  return {
    owner, held: base, error: answer.error, reload: answer.reload, draft, policy, conflict, save, remove, unsaved, kept, broughtBack,
    set: (changes) => setDraft((d) => ({ ...d, ...changes })),
    changed: base !== undefined && (base.policy === null || !same(base.policy, policy)),
    errors: { ...refused, ...errors },
    load: (p) => {
      setDraft(draftOf(p));
      setRefused({});
      setBroughtBack(false);
    },
    resolve: (take) => {
      if (!conflict) return;
      if (take === "theirs") begin(conflict);
      else setBase(conflict);
      setConflict(undefined);
    },
  };
}

/** Errors of an answer by the member that they point to; below `prefix`, if there is one. */
export function pointers(error: unknown, prefix = ""): FieldErrors {
  if (!(error instanceof ApiError)) return {};
  const list: FieldErrors = {};
  for (const m of error.messages) {
    const pointer = m.source?.pointer ?? "";
    if (pointer.startsWith(`${prefix}/`)) list[pointer.slice(prefix.length)] ??= m.message;
  }
  return list;
}
