// The steps of a ramp with their times, and what a person may do to it.
import { useState } from "preact/hooks";
import { useAction } from "../../lib/query";
import { now } from "../../lib/time";
import { tagger } from "../../lib/versions";
import { may } from "../../session";
import { Badge, Button, Confirm, Note, Time, VersionName, type Tone } from "../../ui/basics";
import { toast } from "../../ui/toast";
import { controlRamp, type Deployment, type Ramp, type RampAction } from "./api";
import { nameWith } from "./evidencechart";
import { actionsOf, consequence, lasts, stepsOf, waitsFor, type Step } from "./ramp";

const states: Record<Ramp["state"], [word: string, tone: Tone | undefined]> = {
  running: ["Running", "accent"], paused: ["Held", "warn"], done: ["Done", "good"], aborted: ["Ended", undefined],
};

const verbs: Record<RampAction, string> = { pause: "Hold", resume: "Resume", skip: "Next step now", abort: "End the ramp" };
const done: Record<RampAction, string> = { pause: "held", resume: "resumed", skip: "moved a step on", abort: "ended" };

export function RampPanel(props: { account: string; script: string; ramp: Ramp; deployments: Deployment[]; tags: Map<string, string> | undefined; reload: () => void }) {
  const { ramp, tags } = props;
  // With the ramp as it was at the click: what was read is what is agreed to.
  const [asked, setAsked] = useState<{ action: RampAction; ramp: Ramp } | undefined>();
  const act = useAction(async ({ action, ramp: seen }: { action: RampAction; ramp: Ramp }) => {
    await controlRamp(props.account, props.script, action, seen.deployment_id);
    toast(`The ramp is ${done[action]}.`);
    props.reload();
  });
  const nameOf = nameWith(tags);
  const told = tagger(tags);
  const what = asked && consequence(asked.action, asked.ramp, nameOf(asked.ramp.version_id), nameOf(asked.ramp.baseline_version_id));
  const moved = asked !== undefined && (asked.ramp.deployment_id !== ramp.deployment_id || asked.ramp.state !== ramp.state);
  const [word, tone] = states[ramp.state];
  const changed = ramp.last_change;
  return (
    <section class="panel" aria-labelledby="ramp">
      <div class="row spread">
        <h2 id="ramp" class="row">Ramp of <VersionName id={ramp.version_id} tag={tags?.get(ramp.version_id)} /> <Badge tone={tone}>{word}</Badge></h2>
        {may("policy:edit") && (
          <div class="row">{actionsOf(ramp).map((a) => <Button key={a} compact onClick={() => { act.clear(); setAsked({ action: a, ramp }); }}>{verbs[a]} …</Button>)}</div>
        )}
      </div>
      <div class="stack">
        {/* Said aloud where it changes rarely: the time that is left changes each second. */}
        <p class="lead" role={ramp.reason ? "status" : undefined}>{told(waitsFor(ramp, now.value))}</p>
        <ol class="steps">{stepsOf(ramp, props.deployments).map((s, i) => <StepItem key={i} step={s} number={i + 1} last={i + 1 === (ramp.steps ?? []).length} over={ramp.state === "aborted"} />)}</ol>
        {changed && <p class="quiet small">{changed.by || "Somebody"} {{ pause: "held it", resume: "resumed it", skip: "skipped a step", abort: "ended it" }[changed.action]} <Time at={changed.at} />.</p>}
      </div>
      {what && asked && (
        <Confirm title={what.title} action={what.button} danger={what.danger} busy={act.busy} error={act.error} onClose={() => setAsked(undefined)}
          onConfirm={() => void act.run(asked).then((ok) => ok && setAsked(undefined))}>
          <p>{what.text}</p>
          {moved && !act.busy && (
            <Note tone="warn" live>
              <p>The ramp changed since this was asked. {told(waitsFor(ramp, now.value))}</p>
              {actionsOf(ramp).includes(asked.action) && <p><Button compact onClick={() => { act.clear(); setAsked({ action: asked.action, ramp }); }}>Go on from this</Button></p>}
            </Note>
          )}
        </Confirm>
      )}
    </section>
  );
}

function StepItem(props: { step: Step; number: number; last: boolean; over: boolean }) {
  const { step } = props;
  return (
    <li class={step.place === "left out" ? undefined : step.place} aria-current={step.place === "now" ? "step" : undefined}>
      <strong>{step.percentage} %</strong>
      <span class="small">{props.last ? "the last step" : lasts(step)}</span>
      <span class="small quiet">
        {step.place === "left out" && step.place}
        {step.place === "past" && <>done; began {step.began ? <Time at={step.began} named /> : "at an unknown time"}</>}
        {step.place === "now" && <>{props.over ? "ended here; " : "now; "}began {step.began ? <Time at={step.began} named /> : "at an unknown time"}</>}
        {step.place === "ahead" && (props.over ? "not reached" : "to come")}
      </span>
    </li>
  );
}
