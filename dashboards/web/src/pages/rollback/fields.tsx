// The fields of a policy that are single values, grouped by what they mean.
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import { formatDuration } from "../../lib/time";
import { CheckField, SelectField, TextField } from "../../ui/basics";
import { errorAt, type NumberMember } from "./draft";
import type { Editing } from "./editing";
import { perOne } from "./limits";

export function Group(props: { title: string; about?: ComponentChildren; children: ComponentChildren }) {
  const id = useId();
  return (
    <section class="panel" role="group" aria-labelledby={id}>
      <h2 id={id}>{props.title}</h2>
      <div class="stack">
        {props.about && <p class="quiet small">{props.about}</p>}
        {props.children}
      </div>
    </section>
  );
}

function NumberField(props: { of: Editing; member: NumberMember; label: string; hint?: ComponentChildren; placeholder?: string }) {
  const { of, member } = props;
  return (
    <TextField label={props.label} hint={props.hint} placeholder={props.placeholder ?? "no limit"} value={of.draft.numbers[member]} error={errorAt(of.errors, `/${member}`)}
      onInput={(text) => of.set({ numbers: { ...of.draft.numbers, [member]: text } })} />
  );
}

/** The length that a field in seconds stands for; nothing for what is no number. */
function length(text: string): string | undefined {
  const seconds = Number(text);
  return text.trim() !== "" && seconds >= 60 ? formatDuration(seconds) : undefined;
}

export function FailureFields({ of }: { of: Editing }) {
  return (
    <Group title="Failures">
      <div class="fields">
        <SelectField label="What is a failure" value={of.draft.count} error={errorAt(of.errors, "/count")}
          options={[["any", "An exception or a 5xx"], ["exceptions", "An exception"], ["status_5xx", "A 5xx"]]}
          onChange={(v) => of.set({ count: v as Editing["draft"]["count"] })} />
        <NumberField of={of} member="max_failure_ratio" label="At most … times as many as the baseline" hint="1 is “not worse”. An outage that both versions have rolls nothing back." />
        <NumberField of={of} member="min_failure_difference" label="… and only if the rate is higher by (% of requests)" placeholder="any difference" hint="Keeps tiny differences from mattering, however certain they are." />
        <NumberField of={of} member="max_failure_rate" label="At most (% of requests)" hint="Holds at 100 %, too, and in outages that are not the version’s fault." />
      </div>
    </Group>
  );
}

const times = [
  ["p50 wall time", "max_p50_wall_ms", "max_p50_wall_ratio"], ["p90 wall time", "max_p90_wall_ms", "max_p90_wall_ratio"],
  ["p99 wall time", "max_p99_wall_ms", "max_p99_wall_ratio"], ["p99 CPU time", "max_p99_cpu_ms", "max_p99_cpu_ratio"],
] as const;

export function TimeFields({ of }: { of: Editing }) {
  return (
    <Group title="Times" about="A quantile’s limit is a limit of the share of requests that are slower. Times are counted in steps of 4.4 %, so a limit is rounded up to the next one.">
      {times.map(([name, ms, ratio]) => (
        <div class="fields" key={ms}>
          <NumberField of={of} member={ms} label={`${name}, at most (ms)`} />
          <NumberField of={of} member={ratio} label={`${name}, times the baseline’s`} />
        </div>
      ))}
    </Group>
  );
}

export function TrafficFields({ of }: { of: Editing }) {
  return (
    <Group title="Missing traffic">
      <div class="fields">
        <NumberField of={of} member="min_traffic_ratio" label="Answers at least (% of its share)"
          hint="Finds versions that hang or crash before they answer. Not for scripts with affinity: there the share of a good version wanders." />
      </div>
    </Group>
  );
}

export function CertaintyFields({ of }: { of: Editing }) {
  const { numbers, evidence } = of.draft;
  const confidence = Number(numbers.confidence === "" ? "99.9" : numbers.confidence) / 100;
  return (
    <Group title="How sure, and how soon">
      <div class="fields">
        <NumberField of={of} member="confidence" label="Confidence (%)" placeholder="99.9"
          hint={confidence > 0 && confidence < 1 ? `At most 1 of ${perOne(1 - confidence)} good versions is acted upon. More takes longer.` : "From 50 to 99.9999."} />
        <NumberField of={of} member="min_requests" label="Requests before anything is done" placeholder="20" />
        <NumberField of={of} member="look_back_seconds" label="Tests begin anew every (seconds)" placeholder="300" hint={length(numbers.look_back_seconds) ?? "Finds versions that turn bad after a good time."} />
        <NumberField of={of} member="grace_seconds" label="Grace after the first deployment (seconds)" placeholder="0" hint={length(numbers.grace_seconds) ?? "Does not count: a cold start."} />
        <SelectField label="What is one observation" value={evidence} error={errorAt(of.errors, "/evidence")}
          options={[["requests", "Each request"], ["blocks", "A block of seconds"]]} hint="Blocks where good versions were rolled back because failures come in bursts."
          onChange={(v) => of.set({ evidence: v as Editing["draft"]["evidence"] })} />
        {evidence === "blocks" && <NumberField of={of} member="block_seconds" label="Length of a block (seconds)" placeholder="10" hint="Longer than what ties failures together." />}
      </div>
    </Group>
  );
}

const actions = [
  ["rollback", "Roll back: all traffic to the version that last had all of it"],
  ["pause", "Hold the ramp where it is"],
  ["notify", "Only record the decision and tell people"],
] as const;

export function ActionFields({ of }: { of: Editing }) {
  const name = useId();
  return (
    <Group title="What is done">
      <CheckField label="This policy is switched on" checked={of.draft.enabled} onChange={(enabled) => of.set({ enabled })} />
      <fieldset class="stack tight">
        <legend>With a version that passes a limit</legend>
        {actions.map(([value, text]) => (
          <label class="check" key={value}>
            <input type="radio" name={name} value={value} checked={of.draft.action === value} onChange={() => of.set({ action: value })} />
            <span>{text}</span>
          </label>
        ))}
      </fieldset>
    </Group>
  );
}
