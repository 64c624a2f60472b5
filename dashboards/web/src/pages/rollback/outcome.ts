// What decisions did, in a word.
import type { Tone } from "../../ui/basics";
import type { Decision } from "./api";

export function outcome(d: Pick<Decision, "verdict" | "action" | "to_deployment">): [word: string, tone: Tone | undefined] {
  if (d.action === "rollback") return ["Rolled back", "bad"];
  if (d.action === "pause") return ["Ramp held", "warn"];
  if (d.verdict === "fail") return ["Fails, nothing moved", "warn"];
  if (d.verdict === "error") return ["No verdict", "warn"];
  return d.to_deployment ? ["Step of the ramp", "good"] : ["Passed", "good"];
}
