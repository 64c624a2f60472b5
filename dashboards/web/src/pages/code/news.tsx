// How what is edited stands to the other versions, and what became of saving it.
import { LinkButton, Note, Time } from "../../ui/basics";
import { addressOf, type ScriptName } from "./data";
import { isTemplate } from "./first";
import { nameOf } from "./names";
import type { Version } from "./settings";
import type { Result } from "./usesave";

/** Says what the work is made of, and that it is not, or no longer, the newest version. */
export function Standing(props: { at: ScriptName; base: Version; newest: Version | undefined; late: boolean }) {
  const { at, base, newest } = props;
  if (isTemplate(base)) return <FromTemplate at={at} newest={newest} />;
  const made = <>Made of <a href={addressOf(at, "versions", base.id)}>version {base.number}, {nameOf(base)}</a>, <Time at={base.created_on} />.</>;
  if (!newest || newest.number <= base.number) return <p class="small quiet">{made}</p>;
  const who = <>version {newest.number}, <a href={addressOf(at, "versions", newest.id)}>{nameOf(newest)}</a>, {newest.author_email ? `by ${newest.author_email}, ` : ""}<Time at={newest.created_on} /></>;
  const diff = <a href={`${addressOf(at, "diff")}?from=${base.id}&to=${newest.id}`}>see what it changes</a>;
  if (props.late) {
    return (
      <Note tone="warn" live>
        <p><strong>A newer version appeared while you edit:</strong> {who}. What you save becomes one more version, made of {nameOf(base)}, without what that one changes: {diff}.</p>
      </Note>
    );
  }
  return <Note tone="warn"><p>{made} There is a newer one: {who}. What you save does not have what it changes: {diff}.</p></Note>;
}

function FromTemplate(props: { at: ScriptName; newest: Version | undefined }) {
  const { at, newest } = props;
  if (!newest) return <p class="small quiet">{at.script} has no version yet: this is the template “Hello World”, and what you save becomes its first version.</p>;
  return <Note tone="warn" live><p>{at.script} has version {newest.number}, {nameOf(newest)}, by now, and this is made of the template all the same. <a href={`${addressOf(at, "edit")}?from=${newest.id}`}>Edit that one</a> instead, if that is what you mean.</p></Note>;
}

export function Saved(props: { at: ScriptName; saved: Result | undefined }) {
  const { at, saved } = props;
  if (!saved) return <div role="status" class="visually-hidden" />;
  const { version, deployed, passed } = saved;
  return (
    <Note tone="good" live>
      <p><strong>Saved as version {version.number}, {nameOf(version)}{deployed ? ", and deployed" : ""}.</strong> {deployed ? `It takes all traffic of ${at.script} as soon as its processes run.` : "It gets no traffic yet."}</p>
      {passed && <p>Version {passed.number}, {nameOf(passed)}, was uploaded meanwhile; yours does not have what it changes.</p>}
      <p class="row code-next">
        {!deployed && <LinkButton compact look="primary" href={`${addressOf(at)}?promote=${version.id}`}>Promote it</LinkButton>}
        {deployed && <LinkButton compact look="primary" href={addressOf(at)}>See how it does</LinkButton>}
        <LinkButton compact href={addressOf(at, "versions", version.id)}>Open it</LinkButton>
        {passed && <LinkButton compact href={`${addressOf(at, "diff")}?from=${passed.id}&to=${version.id}`}>Diff with {nameOf(passed)}</LinkButton>}
      </p>
    </Note>
  );
}
