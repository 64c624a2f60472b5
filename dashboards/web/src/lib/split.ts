// Percentages and splits in numbers and in words. Inside they are whole thousandths of a
// percent, as the server keeps them, so that sums are exact.
import type { Schemas } from "../api/client";

export type Split = Schemas["Split"];
export type Named = (versionId: string) => string;

export const full = 100_000;

export function thousandths(percentage: number): number {
  return Math.round(percentage * 1000);
}

export function percentage(thousandthsOfOne: number): number {
  return thousandthsOfOne / 1000;
}

/** 12345 as "12.345 %". */
export function percentText(n: number): string {
  return `${percentage(n)} %`;
}

/** What a person typed as a percentage, in thousandths; undefined for what is none, or has more than three decimals. */
export function parsePercent(text: string): number | undefined {
  const clean = text.trim().replace(/\s*%$/, "").replace(",", ".");
  if (!/^(\d{1,3}(\.\d{0,3})?|\.\d{1,3})$/.test(clean)) return undefined;
  const n = thousandths(Number(clean));
  return n <= full ? n : undefined;
}

/** The split of a candidate and of what it stands beside; one of them alone where the other gets nothing it has to have. */
export function splitOf(candidate: string, share: number, beside: string | undefined): Split[] {
  if (beside === undefined || share === full) return [{ version_id: candidate, percentage: 100 }];
  return [
    { version_id: beside, percentage: percentage(full - share) },
    { version_id: candidate, percentage: percentage(share) },
  ];
}

export function shareOf(splits: readonly Split[], id: string): number | undefined {
  const split = splits.find((s) => s.version_id === id);
  return split && thousandths(split.percentage);
}

/** "90 % v1, 10 % v2": the largest share first. */
export function splitText(splits: readonly Split[], name: Named): string {
  return [...splits].sort((a, b) => b.percentage - a.percentage).map((s) => `${percentText(thousandths(s.percentage))} ${name(s.version_id)}`).join(", ");
}

export function sameSplit(a: readonly Split[], b: readonly Split[]): boolean {
  return a.length === b.length && a.every((s) => shareOf(b, s.version_id) === thousandths(s.percentage));
}

function list(parts: string[]): string {
  return parts.length < 2 ? parts.join("") : `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`;
}

function grows(split: Split, before: readonly Split[], name: Named): string {
  const now = thousandths(split.percentage);
  const was = shareOf(before, split.version_id);
  const who = name(split.version_id);
  const from = was === undefined ? "joins the deployment" : was === now ? "as now" : `${percentText(was)} now`;
  if (now === 0) return `${who} gets no request but those that name it (${from})`;
  return `${who} gets ${percentText(now)} of requests (${from})`;
}

/** What will happen when `after` replaces `before`, in one sentence with the numbers. */
export function changeSentence(before: readonly Split[], after: readonly Split[], name: Named): string {
  if (sameSplit(before, after)) return `Nothing changes: ${splitText(after, name)} is what serves now.`;
  const parts = [...after].sort((a, b) => b.percentage - a.percentage).map((s) => grows(s, before, name));
  const gone = before.filter((s) => shareOf(after, s.version_id) === undefined);
  for (const s of gone) parts.push(`${name(s.version_id)}, which has ${percentText(thousandths(s.percentage))} now, leaves the deployment`);
  return `${list(parts)}.`;
}

/**
 * How many requests change their version, of those that come in a second, `when` says in which
 * time; empty where that is not known, or not worth a word.
 */
export function movedSentence(before: readonly Split[], after: readonly Split[], rate: { perSecond: number; when: string } | undefined): string {
  if (rate === undefined) return "";
  const grown = after.reduce((sum, s) => sum + Math.max(0, thousandths(s.percentage) - (shareOf(before, s.version_id) ?? 0)), 0);
  const moved = (rate.perSecond * grown) / full;
  if (before.length === 0 || moved === 0) return "";
  const digits = (n: number): string => String(Number(n.toPrecision(2)));
  return `Of about ${digits(rate.perSecond)} requests a second ${rate.when}, ${digits(moved)} change their version.`;
}

/** Why a split cannot be deployed, before the server is asked. */
export function splitProblem(candidate: string, share: number | undefined, beside: string | undefined): string | undefined {
  if (share === undefined) return "A percentage is a number from 0 to 100 with at most three decimals, such as 12.5.";
  if (beside === undefined && share !== full) return "A version that stands alone gets 100 %.";
  if (beside === candidate) return "Choose two different versions.";
  return undefined;
}
