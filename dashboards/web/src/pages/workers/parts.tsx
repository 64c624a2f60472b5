// Parts that the pages of this area share.
import type { ComponentChildren } from "preact";
import { Badge, Empty, LinkButton, VersionName } from "../../ui/basics";
import { percentText, splitText, thousandths, type Named, type Split } from "../../lib/split";
import { scriptPage } from "../../lib/url";
import { type Decision, type Ramp } from "./data";
import type { VersionNames } from "./versions";

/** What stands on a page whose script does not exist, or exists no more. */
export function Gone({ account, script }: { account: string; script: string }) {
  return <Empty title={`There is no script ${script}`}><p>It was deleted, or never was. What serves is in the list of all scripts.</p><p><LinkButton href={`/${account}/workers`}>To the scripts</LinkButton></p></Empty>;
}

/** A split as a small bar, one part a version; the words stand beside it or are its label. */
export function SplitBar(props: { splits: readonly Split[]; name: Named; series: (id: string) => number | undefined; hidden?: boolean }) {
  const label = props.hidden ? { "aria-hidden": true } as const : { role: "img", "aria-label": splitText(props.splits, props.name) } as const;
  return (
    <span class="split-bar" {...label}>
      {props.splits.filter((s) => s.percentage > 0).map((s) => {
        const series = props.series(s.version_id);
        return <span key={s.version_id} class={series === undefined ? "part" : `part series-${(series % 8) + 1}`} style={{ flexGrow: s.percentage }} />;
      })}
    </span>
  );
}

/** A split in words, each version a link. */
export function SplitWords(props: { account: string; script: string; splits: readonly Split[]; names: VersionNames }) {
  return (
    <ul class="split-words">
      {[...props.splits].sort((a, b) => b.percentage - a.percentage).map((s) => (
        <li key={s.version_id}>
          <span class="nowrap">{percentText(thousandths(s.percentage))}</span>
          <VersionName id={s.version_id} tag={props.names.tag(s.version_id)} series={props.names.series(s.version_id)} href={scriptPage(props.account, props.script, "versions", s.version_id)} />
        </li>
      ))}
    </ul>
  );
}

/** How far a ramp is, as a badge that leads to it; nothing for one that is over. */
export function RampBadge(props: { account: string; script: string; ramp: Ramp | undefined; serving: string | undefined }) {
  const text = rampText(props.ramp, props.serving);
  if (!text || !props.ramp) return null;
  return <BadgeLink href={scriptPage(props.account, props.script, "rollback")} tone={props.ramp.state === "paused" ? "warn" : "accent"}>{text}</BadgeLink>;
}

/** "Ramp at 5 %, step 1 of 4"; undefined for a ramp that is over, or that a person has taken over from. */
export function rampText(ramp: Ramp | undefined, serving: string | undefined): string | undefined {
  if (!ramp || (ramp.state !== "running" && ramp.state !== "paused") || ramp.deployment_id !== serving) return undefined;
  const steps = ramp.steps ?? [];
  const step = steps[ramp.step];
  const at = step ? ` at ${percentText(thousandths(step.percentage))}, step ${ramp.step + 1} of ${steps.length}` : "";
  return ramp.state === "paused" ? `Ramp paused${at}` : `Ramp${at}`;
}

const acted: Record<string, [text: string, tone: "bad" | "warn"]> = {
  rollback: ["Rolled back", "bad"], pause: ["Ramp paused by its policy", "warn"], notify: ["Limit passed", "warn"],
};

/** What a policy did, as a badge that leads to the decision. */
export function DecisionBadge(props: { account: string; script: string; decision: Decision | undefined; told?: (text: string) => string; when?: ComponentChildren }) {
  const { decision } = props;
  const [text, tone] = acted[decision?.action ?? ""] ?? [];
  if (!decision || !text) return null;
  return <BadgeLink href={`${scriptPage(props.account, props.script, "rollback")}?decision=${decision.id}`} tone={tone} title={props.told?.(decision.sentence) ?? decision.sentence}>{text}{props.when && <> {props.when}</>}</BadgeLink>;
}

function BadgeLink(props: { href: string; tone: "bad" | "warn" | "accent" | undefined; title?: string; children: ComponentChildren }) {
  return <a class="badge-link" href={props.href} title={props.title}><Badge tone={props.tone}>{props.children}</Badge></a>;
}
