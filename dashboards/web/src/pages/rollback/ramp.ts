// Where a ramp stands, in words.
import { formatDuration } from "../../lib/time";
import { capital } from "../../lib/format";
import type { Deployment, Ramp, RampAction } from "./api";

export interface Step {
  percentage: number;
  bakeSeconds: number;
  gate: "watched" | "proven" | "manual";
  /** Left out is a step below the share at which a person began. */
  place: "past" | "now" | "ahead" | "left out";
  /** When it was deployed, as far as deployments tell. */
  began: Date | undefined;
}

/** The steps of a ramp. When past ones began is told by the deployments, newest first, that led to the present one. */
export function stepsOf(ramp: Ramp, deployments: Deployment[]): Step[] {
  const began = new Map<number, Date>();
  const from = deployments.findIndex((d) => d.id === ramp.deployment_id);
  let whole = false; // whether the list goes back to before the version had a share
  for (const d of from < 0 ? [] : deployments.slice(from)) {
    const split = d.versions.find((v) => v.version_id === ramp.version_id && v.percentage > 0);
    if (!split) {
      whole = true;
      break;
    }
    began.set(split.percentage, new Date(d.created_on));
  }
  return (ramp.steps ?? []).map((s, i) => {
    const place = i > ramp.step ? "ahead" : i === ramp.step ? "now" : whole && !began.has(s.percentage) ? "left out" : "past";
    return { percentage: s.percentage, bakeSeconds: s.bake_seconds, gate: s.gate ?? "watched", place, began: place === "ahead" ? undefined : began.get(s.percentage) };
  });
}

const gates = { watched: "", proven: "until proven", manual: "until a person says so" };

/** How long a step lasts: "at least 5 min, and until proven". Empty if neither a time nor a gate was given. */
export function lasts(step: Pick<Step, "bakeSeconds" | "gate">): string {
  const time = step.bakeSeconds > 0 ? `at least ${formatDuration(step.bakeSeconds)}` : "";
  return [time, gates[step.gate]].filter((t) => t !== "").join(", and ");
}

/** What a running or paused ramp waits for. */
export function waitsFor(ramp: Ramp, now: Date): string {
  const steps = ramp.steps ?? [];
  const next = steps[ramp.step + 1];
  const step = steps[ramp.step];
  switch (ramp.state) {
    case "done": return "It has reached its last step. The version stays on trial without a ramp.";
    case "aborted": return sentence(ramp.reason ?? "", "It was ended. Traffic stays as it is.");
    case "paused": return sentence(ramp.reason ?? "", "It is held until a person resumes it.");
  }
  if (!step || !next) return "It is at its last step.";
  if (ramp.reason) return sentence(ramp.reason, "");
  const left = (Date.parse(ramp.step_started_at) - now.getTime()) / 1000 + step.bake_seconds;
  if (left > 0) return `It stays at ${step.percentage} % for ${formatDuration(Math.max(left, 1))} more; then the step to ${next.percentage} % is due.`;
  return `The step to ${next.percentage} % is due: the next look decides.`;
}

function sentence(reason: string, otherwise: string): string {
  if (reason === "") return otherwise;
  return `${capital(reason)}.`;
}

/** What a person may do now. */
export function actionsOf(ramp: Ramp): RampAction[] {
  const last = ramp.step + 1 >= (ramp.steps ?? []).length;
  switch (ramp.state) {
    case "running": return last ? ["abort"] : ["pause", "skip", "abort"];
    case "paused": return last ? ["resume", "abort"] : ["resume", "skip", "abort"];
    default: return [];
  }
}

export interface Consequence {
  title: string;
  button: string;
  text: string;
  danger: boolean;
}

/** What an action does, before it is done. */
export function consequence(action: RampAction, ramp: Ramp, version: string, baseline: string): Consequence {
  const steps = ramp.steps ?? [];
  const now = steps[ramp.step];
  const next = steps[ramp.step + 1];
  const share = `${now?.percentage ?? 0} %`;
  switch (action) {
    case "pause": return {
      title: `Hold the ramp of ${version}?`, button: "Hold the ramp", danger: false,
      text: `${version} stays at ${share} of the requests until somebody resumes the ramp. It is still watched, and still rolled back if it fails.`,
    };
    case "resume": return {
      title: `Resume the ramp of ${version}?`, button: "Resume the ramp", danger: false,
      text: `${version} goes on at ${share}; ${now?.bake_seconds ? `the step takes its whole ${formatDuration(now.bake_seconds)} again, and ` : ""}only what comes from now on is judged.`,
    };
    case "skip": {
      const rest = 100 - (next?.percentage ?? 0);
      return {
        title: `Go to step ${ramp.step + 2} of ${steps.length} now?`, button: `Deploy ${next?.percentage} % now`, danger: false,
        text: `${version} gets ${next?.percentage} % of the requests instead of ${share}${rest > 0 ? `, and ${baseline} keeps ${rest} %` : `, and ${baseline} none`}. The rest of this step’s time, its gate and its hours are not waited for, and only what comes from now on is judged.`,
      };
    }
    case "abort": return {
      title: `End the ramp of ${version}?`, button: "End the ramp", danger: true,
      text: `${version} stays at ${share} of the requests, and no step follows by itself. This ramp cannot be taken up again; another deployment begins another one.`,
    };
  }
}
