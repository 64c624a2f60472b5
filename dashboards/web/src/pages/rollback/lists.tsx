// The fields of a policy that are lists: steps of its ramp, hours, and who is told.
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { serverNow } from "../../lib/clock";
import { fromInput, toInput } from "../../lib/moments";
import { formatDuration, zoneName } from "../../lib/time";
import { Button, CheckField, SelectField, TextField } from "../../ui/basics";
import { errorAt, type Draft, type DraftStep, type DraftTarget } from "./draft";
import type { Editing } from "./editing";
import { Group } from "./fields";
import { news, type On } from "./sentences";

type ListName = "ramp" | "notify" | "promote" | "freeze";

/** The entries of a list, each with its fields and a button that takes it away. */
function Entries<N extends ListName>(props: {
  of: Editing; list: N; noun: string; add: string; fresh: () => Draft[N][number]; max: number;
  children: (entry: Draft[N][number], change: (changes: Partial<Draft[N][number]>) => void, error: (member: string) => string | undefined, index: number) => ComponentChildren;
}) {
  const { of, list, noun } = props;
  const entries = of.draft[list] as Draft[N][number][];
  const box = useRef<HTMLOListElement>(null);
  const foot = useRef<HTMLDivElement>(null);
  const shown = useRef(entries.length);
  const removed = useRef<number | undefined>(undefined);
  useEffect(() => {
    // Who adds an entry with the keyboard goes on in it, and who removes one at its neighbour.
    if (entries.length === shown.current + 1) box.current?.lastElementChild?.querySelector<HTMLElement>("input, select")?.focus();
    if (removed.current !== undefined) (box.current?.children[Math.min(removed.current, entries.length - 1)] ?? foot.current)?.querySelector<HTMLElement>(":scope > button")?.focus();
    shown.current = entries.length;
    removed.current = undefined;
  }, [entries.length]);
  const remove = (i: number): void => {
    removed.current = i;
    put(entries.filter((_, j) => j !== i));
  };
  const put = (next: Draft[N][number][]): void => of.set({ [list]: next } as Partial<Draft>);
  return (
    <>
      {entries.length > 0 && (
        <ol class="entries" ref={box}>
          {entries.map((entry, i) => (
            <li key={i} aria-label={`${noun} ${i + 1}`}>
              {props.children(entry, (changes) => put(entries.map((e, j) => (j === i ? { ...e, ...changes } : e))), (member) => errorAt(of.errors, `/${list}/${i}/${member}`), i)}
              {of.errors[`/${list}/${i}`] && <p class="wrong small">{of.errors[`/${list}/${i}`]}</p>}
              <Button compact onClick={() => remove(i)} aria-label={`Remove ${noun.toLowerCase()} ${i + 1}`}>Remove</Button>
            </li>
          ))}
        </ol>
      )}
      {of.errors[`/${list}`] && <p class="wrong small">{of.errors[`/${list}`]}</p>}
      <div ref={foot}><Button compact disabled={entries.length >= props.max} onClick={() => put([...entries, props.fresh()])}>{props.add}</Button></div>
    </>
  );
}

export function RampFields({ of }: { of: Editing }) {
  const steps = of.draft.ramp;
  const next = (): DraftStep => {
    const last = Number(steps.at(-1)?.percentage ?? 0);
    return { percentage: String([1, 5, 10, 25, 50, 100].find((p) => p > last) ?? ""), bake_seconds: "300", gate: "watched" };
  };
  return (
    <Group title="Ramp" about="A version that a person gives a share grows by itself, step by step, while nothing speaks against it. Time and gate of the last step are not asked for.">
      <Entries of={of} list="ramp" noun="Step" add="Add a step" fresh={next} max={20}>
        {(step, change, error) => (
          <div class="fields">
            <TextField label="Share (%)" value={step.percentage} error={error("percentage")} onInput={(percentage) => change({ percentage })} />
            <TextField label="Stays at least (seconds)" value={step.bake_seconds} error={error("bake_seconds")} hint={Number(step.bake_seconds) >= 60 ? formatDuration(Number(step.bake_seconds)) : undefined} onInput={(bake_seconds) => change({ bake_seconds })} />
            <SelectField label="And until" value={step.gate} error={error("gate")} options={[["watched", "nothing is against it"], ["proven", "proven to keep ratios"], ["manual", "a person says so"]]} onChange={(gate) => change({ gate: gate as DraftStep["gate"] })} />
          </div>
        )}
      </Entries>
    </Group>
  );
}

const days = [["mon", "Mon"], ["tue", "Tue"], ["wed", "Wed"], ["thu", "Thu"], ["fri", "Fri"], ["sat", "Sat"], ["sun", "Sun"]] as const;

function toggled<T>(list: T[], one: T, on: boolean, order: readonly T[]): T[] {
  const set = new Set(list);
  if (on) set.add(one);
  else set.delete(one);
  return order.filter((o) => set.has(o));
}

export function HourFields({ of }: { of: Editing }) {
  return (
    <Group title="When ramps go on" about="By themselves, that is: neither hours nor freezes hold up a rollback, or a person.">
      <Entries of={of} list="promote" noun="Window" add="Add hours of the week" max={50} fresh={() => ({ days: ["mon", "tue", "wed", "thu", "fri"], from: "09:00", until: "16:00", time_zone: zoneName() === "UTC" ? "" : zoneName() })}>
        {(window, change, error, i) => (
          <>
            <fieldset>
              <legend>Days on which window {i + 1} begins</legend>
              <div class="row">{days.map(([day, name]) => <CheckField key={day} label={name} checked={window.days.includes(day)} onChange={(on) => change({ days: toggled(window.days, day, on, days.map(([d]) => d)) })} />)}</div>
              <p class="hint quiet small">{window.days.length === 0 ? "None is every day." : ""}</p>
            </fieldset>
            <div class="fields">
              <TextField label="From (HH:MM)" value={window.from} error={error("from")} onInput={(from) => change({ from })} />
              <TextField label="Until (HH:MM)" value={window.until} error={error("until")} onInput={(until) => change({ until })} />
              <TextField label="Time zone" value={window.time_zone} placeholder="UTC" error={error("time_zone")} onInput={(time_zone) => change({ time_zone })} />
            </div>
            {error("days") && <p class="wrong small">{error("days")}</p>}
          </>
        )}
      </Entries>
      <Entries of={of} list="freeze" noun="Freeze" add="Add a freeze" max={50} fresh={() => freezeFromNow()}>
        {(freeze, change, error) => (
          <div class="fields">
            <TextField type="datetime-local" label={`Frozen from (${zoneName()})`} value={toInput(freeze.from)} error={error("from")} onInput={(text) => change({ from: fromInput(text) })} />
            <TextField type="datetime-local" label={`Until (${zoneName()})`} value={toInput(freeze.until)} error={error("until")} onInput={(text) => change({ until: fromInput(text) })} />
            <TextField label="Reason" value={freeze.reason} error={error("reason")} onInput={(reason) => change({ reason })} />
          </div>
        )}
      </Entries>
    </Group>
  );
}

function freezeFromNow(): Draft["freeze"][number] {
  const hour = 3_600_000;
  const from = Math.ceil(serverNow().getTime() / hour) * hour;
  return { from: new Date(from).toISOString(), until: new Date(from + 24 * hour).toISOString(), reason: "" };
}

const kinds = Object.keys(news) as On[];

export function NotifyFields({ of }: { of: Editing }) {
  return (
    <Group title="Who is told" about="Traffic moves first and waits for nobody. Parts of addresses that let whoever knows them in are shown as ***, and kept as they are when you save.">
      <Entries of={of} list="notify" noun="Target" add="Add a target" max={10} fresh={() => ({ type: "webhook", url: "", secret: "", to: "", on: [] })}>
        {(target, change, error, i) => (
          <>
            <div class="fields">
              <SelectField label="How" value={target.type} error={error("type")} options={[["webhook", "Webhook"], ["slack", "Slack"], ["alertmanager", "Alertmanager"], ["email", "E-mail"]]} onChange={(type) => change({ type: type as DraftTarget["type"] })} />
              {target.type === "email"
                ? <TextField label="Addresses" hint="With commas between them." value={target.to} error={error("to")} onInput={(to) => change({ to })} />
                : <TextField label="URL" value={target.url} placeholder="https://" error={error("url")} onInput={(url) => change({ url })} />}
              {target.type === "webhook" && <TextField label="Secret that signs the body" hint="At least 16 characters; empty: not signed." value={target.secret} error={error("secret")} onInput={(secret) => change({ secret })} />}
            </div>
            <fieldset>
              <legend>Target {i + 1} is told of</legend>
              <div class="row">{kinds.map((on) => <CheckField key={on} label={news[on]} checked={target.on.includes(on)} onChange={(checked) => change({ on: toggled(target.on, on, checked, kinds) })} />)}</div>
              <p class="hint quiet small">{target.on.length === 0 ? "None is everything but single steps of a ramp." : ""}</p>
            </fieldset>
            {error("on") && <p class="wrong small">{error("on")}</p>}
          </>
        )}
      </Entries>
    </Group>
  );
}
