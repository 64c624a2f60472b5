// The fields of a policy, and beside them what they say in sentences.
import type { ComponentChildren } from "preact";
import { may } from "../../session";
import { useEffect, useRef, useState } from "preact/hooks";
import { Button, Confirm, Note, Problem, Time } from "../../ui/basics";
import { LeaveGuard } from "../../ui/leave";
import { difference, explain } from "./sentences";
import { isOwn, type Editing } from "./editing";
import { ActionFields, CertaintyFields, FailureFields, TimeFields, TrafficFields } from "./fields";
import { HourFields, NotifyFields, RampFields } from "./lists";
import { newPolicy } from "./draft";
import type { Settings } from "./limits";

export function PolicySentences(props: { policy: Settings; title: string; live?: boolean; children?: ComponentChildren }) {
  return (
    <section class="panel sentences" aria-label={props.title} tabIndex={props.live ? 0 : undefined}>
      <h2>{props.title}</h2>
      <div class="stack">
        {explain(props.policy).map((topic) => (
          <div key={topic.title}>
            <h3>{topic.title}</h3>
            <ul>{topic.sentences.map((s) => <li key={s}>{s}</li>)}</ul>
          </div>
        ))}
      </div>
      {props.live && <Announcement policy={props.policy} />}
      {props.children}
    </section>
  );
}

/** Milliseconds without a change after which a screen reader is told of it, and not with every key. */
const pauseMS = 1000;

function Announcement({ policy }: { policy: Settings }) {
  const told = useRef(policy);
  const [text, setText] = useState("");
  useEffect(() => {
    const timer = setTimeout(() => {
      const { gone, come } = difference(told.current, policy);
      told.current = policy;
      if (gone.length > 0 || come.length > 0) setText([...gone.map((s) => `No more: ${s}`), ...come].join(" "));
    }, pauseMS);
    return () => clearTimeout(timer);
  }, [JSON.stringify(policy)]);
  return <p class="visually-hidden" role="status">{text}</p>;
}

/** What changed between two policies: what is said no more, and what is said now. */
export function Difference(props: { before: Settings; after: Settings }) {
  const { gone, come } = difference(props.before, props.after);
  if (gone.length === 0 && come.length === 0) return <p class="quiet">Both say the same.</p>;
  return (
    <ul class="difference">
      {gone.map((s) => <li key={`-${s}`} class="gone"><span class="visually-hidden">No more: </span><del>{s}</del></li>)}
      {come.map((s) => <li key={`+${s}`} class="come"><span class="visually-hidden">New: </span><ins>{s}</ins></li>)}
    </ul>
  );
}

/** Asks who leaves a page with what is edited in it. It belongs to the page, whose other views keep the edits. */
export function PolicyGuard({ of, whose }: { of: Editing; whose: string }) {
  return (
    <LeaveGuard unsaved={may("policy:edit") && of.unsaved} anyParameters>
      Your changes to the policy of {whose} are not saved. {of.kept ? "This browser tab keeps them, and brings them back when you come here again." : "The browser has no room for them, and they would be lost."}
    </LeaveGuard>
  );
}

/** Says where the contents of the fields come from, if that was before this page was opened. */
export function BroughtBack({ of }: { of: Editing }) {
  if (!of.broughtBack) return null;
  return (
    <Note live>
      <p><strong>Your changes that were not saved are back in the fields.</strong> This browser tab has kept them, but for addresses and secrets of who is told. Nothing of them holds before you save.</p>
      <div class="row"><Button compact onClick={() => (of.conflict ? of.resolve("theirs") : of.load(of.held?.policy ?? newPolicy))}>Drop them</Button></div>
    </Note>
  );
}

export function PolicyEditor({ of, whose }: { of: Editing; whose: string }) {
  const allowed = may("policy:edit");
  return (
    <form class="policy" aria-label={`Policy of ${whose}`} onSubmit={(e) => {
      e.preventDefault();
      const form = e.currentTarget;
      void of.save.run().then((saved) => { if (!saved) requestAnimationFrame(() => form.querySelector<HTMLElement>("[aria-invalid]")?.focus()); });
    }}>
      <div class="stack policy-fields">
        <ActionFields of={of} />
        <FailureFields of={of} />
        <TimeFields of={of} />
        <TrafficFields of={of} />
        <CertaintyFields of={of} />
        <RampFields of={of} />
        <HourFields of={of} />
        <NotifyFields of={of} />
      </div>
      <div class="policy-side stack">
        <PolicySentences policy={of.policy} title="In words" live />
        {allowed ? <SaveBox of={of} whose={whose} /> : <Note>Your token may read this policy, but not change it. What you change here can be tried on past traffic.</Note>}
      </div>
    </form>
  );
}

function SaveBox({ of, whose }: { of: Editing; whose: string }) {
  const held = of.held?.policy;
  const own = isOwn(of.owner, of.held);
  return (
    <section class="panel" aria-label="Save">
      <div class="stack">
        {of.conflict && <Conflict of={of} />}
        <Problem error={of.save.error} />
        <p class="small" role="status">
          {!of.changed && own ? "Nothing is changed." : `Saving begins the running tests of ${whose} anew: from then on they count only what comes.`}
        </p>
        <div class="row">
          <Button submit look="primary" busy={of.save.busy} disabled={!of.changed && own}>{own ? "Save the policy" : "Save as its own policy"}</Button>
          {of.changed && <Button onClick={() => of.load(held ?? newPolicy)}>Discard changes</Button>}
          {own && <DeletePolicy of={of} whose={whose} />}
        </div>
        {held && own && <p class="quiet small">Revision {held.revision}{held.modified_by ? ` by ${held.modified_by}` : ""}, <Time at={held.modified_on} />.</p>}
      </div>
    </section>
  );
}

function Conflict({ of }: { of: Editing }) {
  const theirs = of.conflict!.policy;
  const before = of.held?.policy;
  return (
    <Note tone="warn" live>
      {theirs
        ? <p><strong>{theirs.modified_by || "Somebody"} saved revision {theirs.revision} <Time at={theirs.modified_on} />, while you were editing.</strong> Nothing of yours was saved.</p>
        : <p><strong>Somebody deleted this policy while you were editing.</strong> Nothing of yours was saved.</p>}
      {theirs && before && <Difference before={before} after={theirs} />}
      <div class="row">
        <Button compact onClick={() => of.resolve("theirs")}>Take theirs, drop mine</Button>
        <Button compact onClick={() => of.resolve("mine")}>Keep mine: it replaces theirs when I save</Button>
      </div>
    </Note>
  );
}

function DeletePolicy({ of, whose }: { of: Editing; whose: string }) {
  const [asking, setAsking] = useState(false);
  const script = of.owner.script;
  return (
    <>
      <Button onClick={() => setAsking(true)}>Delete …</Button>
      {asking && (
        <Confirm title={`Delete the policy of ${whose}?`} action="Delete the policy" danger busy={of.remove.busy} error={of.remove.error} onClose={() => { of.remove.clear(); setAsking(false); }}
          onConfirm={() => void of.remove.run().then((done) => done && setAsking(false))}>
          {script !== undefined
            ? <p>From then on {script} follows the account’s default, or is not watched at all if there is none. A running ramp stays where it is. Revisions are kept.</p>
            : <p>From then on scripts without a policy of their own are not watched. Their running ramps stay where they are. Revisions are kept.</p>}
        </Confirm>
      )}
    </>
  );
}
