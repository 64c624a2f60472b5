// Small parts that several pages of this area use.
import { Badge, type Tone } from "../../ui/basics";
import { percentText } from "../../lib/split";
import type { Change } from "./settings";

/** The share of traffic of a version in thousandths of a percent; a dash for one that is not deployed. */
export function Traffic(props: { share: number | undefined }) {
  if (props.share === undefined) return <span class="quiet">–</span>;
  return <Badge tone={props.share > 0 ? "good" : "accent"}>{percentText(props.share)}</Badge>;
}

const changeNames: Record<Change, [text: string, tone: Tone | undefined]> = {
  added: ["Added", "good"], removed: ["Removed", "bad"], changed: ["Changed", "warn"], same: ["Same", undefined], unknown: ["Not known", undefined],
};

export function ChangeBadge(props: { change: Change }) {
  const [text, tone] = changeNames[props.change];
  return <Badge tone={tone}>{text}</Badge>;
}
