// A policy while it is edited: what stands in the fields, which may not be a number yet.
import type { Schemas } from "../../api/client";
import { exact, limits, type Kind, type Limit, type Settings } from "./limits";

type Target = Schemas["NotifyTarget"];
type Window = Schemas["WeeklyWindow"];

/** Members that are numbers, with what a field shows of them. */
export type NumberMember = Limit | "min_failure_difference" | "min_requests" | "look_back_seconds" | "confidence" | "grace_seconds" | "block_seconds";

const numberKinds: Record<NumberMember, Kind | "count"> = {
  ...(Object.fromEntries(limits.map((l) => [l.member, l.kind])) as Record<Limit, Kind>),
  min_failure_difference: "share",
  confidence: "share",
  min_requests: "count",
  look_back_seconds: "count",
  grace_seconds: "count",
  block_seconds: "count",
};
export const numberMembers = Object.keys(numberKinds) as NumberMember[];

/** What a member has that is left out; the others are left out then. */
export const defaults = {
  min_requests: 20, look_back_seconds: 300, confidence: 0.999, grace_seconds: 0,
  count: "any", evidence: "requests", action: "rollback",
} as const satisfies Partial<Settings>;

export interface DraftStep {
  percentage: string;
  bake_seconds: string;
  gate: NonNullable<Schemas["RampStepBody"]["gate"]>;
}

export interface DraftTarget {
  type: Target["type"];
  url: string;
  secret: string;
  /** Addresses, with commas or spaces between them. */
  to: string;
  on: NonNullable<Target["on"]>;
}

export interface Draft {
  enabled: boolean;
  numbers: Record<NumberMember, string>;
  count: Settings["count"];
  evidence: Settings["evidence"];
  action: Settings["action"];
  ramp: DraftStep[];
  notify: DraftTarget[];
  promote: Required<Window>[];
  freeze: Required<Schemas["FreezeWindow"]>[];
}

/** Whether something that was read back has the shape of a draft. */
export function isDraft(d: Draft): boolean {
  return numberMembers.every((m) => typeof d.numbers[m] === "string") && [d.ramp, d.notify, d.promote, d.freeze].every(Array.isArray);
}

/** A policy that names nothing but what must be named. */
export const newPolicy: Settings = { enabled: true, ...defaults, max_failure_ratio: 1 };

function shown(member: NumberMember, value: number | undefined): string {
  if (value === undefined) return "";
  return String(numberKinds[member] === "share" ? exact(value * 100) : value);
}

export function draftOf(policy: Settings): Draft {
  return {
    enabled: policy.enabled,
    numbers: Object.fromEntries(numberMembers.map((m) => [m, shown(m, policy[m])])) as Draft["numbers"],
    count: policy.count,
    evidence: policy.evidence,
    action: policy.action,
    ramp: (policy.ramp ?? []).map((s) => ({ percentage: String(s.percentage), bake_seconds: String(s.bake_seconds ?? 0), gate: s.gate ?? "watched" })),
    notify: (policy.notify ?? []).map((t) => ({ type: t.type, url: t.url ?? "", secret: t.secret ?? "", to: (t.to ?? []).join(", "), on: t.on ?? [] })),
    promote: (policy.promote ?? []).map((w) => ({ days: w.days ?? [], from: w.from, until: w.until, time_zone: w.time_zone ?? "" })),
    freeze: (policy.freeze ?? []).map((f) => ({ from: f.from, until: f.until, reason: f.reason ?? "" })),
  };
}

/** Errors by the JSON pointer of the member that they are about, as the API gives them. */
export type FieldErrors = Record<string, string>;

export interface Read {
  policy: Settings;
  /** What is no number; the API says what else is wrong. */
  errors: FieldErrors;
}

/** The policy that the fields say. A number that is left out has its default, or is left out. */
export function policyOf(draft: Draft): Read {
  const errors: FieldErrors = {};
  const number = (text: string, pointer: string): number | undefined => {
    if (text.trim() === "") return undefined;
    const n = Number(text);
    if (Number.isFinite(n)) return n;
    errors[pointer] = `“${text}” is not a number`;
    return undefined;
  };
  const policy: Settings = { enabled: draft.enabled, ...defaults, count: draft.count, evidence: draft.evidence, action: draft.action };
  for (const member of numberMembers) {
    if (member === "block_seconds" && draft.evidence !== "blocks") continue;
    if (member === "min_failure_difference" && draft.numbers.max_failure_ratio.trim() === "") continue;
    const n = number(draft.numbers[member], `/${member}`);
    if (n !== undefined) policy[member] = numberKinds[member] === "share" ? exact(n / 100) : n;
  }
  // A gap in what must be named is the API's to refuse, at its field.
  if (draft.ramp.length > 0) {
    policy.ramp = draft.ramp.map((s, i) => ({
      percentage: number(s.percentage, `/ramp/${i}/percentage`) ?? 0,
      bake_seconds: number(s.bake_seconds, `/ramp/${i}/bake_seconds`) ?? 0,
      gate: s.gate,
    }));
  }
  if (draft.notify.length > 0) policy.notify = draft.notify.map(targetOf);
  if (draft.promote.length > 0) {
    policy.promote = draft.promote.map((w) => ({ from: w.from, until: w.until, ...(w.days.length > 0 ? { days: w.days } : {}), ...(w.time_zone ? { time_zone: w.time_zone } : {}) }));
  }
  if (draft.freeze.length > 0) policy.freeze = draft.freeze.map((f) => ({ from: f.from, until: f.until, ...(f.reason ? { reason: f.reason } : {}) }));
  return { policy: completed(policy), errors };
}

function targetOf(t: DraftTarget): Target {
  const target: Target = { type: t.type };
  if (t.type === "email") target.to = t.to.split(/[\s,;]+/).filter((a) => a !== "");
  else target.url = t.url.trim();
  if (t.type === "webhook" && t.secret !== "") target.secret = t.secret;
  if (t.on.length > 0) target.on = t.on;
  return target;
}

/** What the API adds to a policy when it is saved. */
function completed(policy: Settings): Settings {
  const done = { ...policy };
  if (limits.every((l) => done[l.member] === undefined)) done.max_failure_ratio = 1;
  if (done.evidence === "blocks") done.block_seconds ??= 10;
  return done;
}

/** Whether two policies say the same: both as fields show them, so that what is left out is no difference. */
export function same(a: Settings, b: Settings): boolean {
  return JSON.stringify(policyOf(draftOf(a))) === JSON.stringify(policyOf(draftOf(b)));
}

/** The first error at a member or at something in it. */
export function errorAt(errors: FieldErrors, pointer: string): string | undefined {
  const found = Object.keys(errors).find((p) => p === pointer || p.startsWith(`${pointer}/`));
  return found === undefined ? undefined : errors[found];
}
