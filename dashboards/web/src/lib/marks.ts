// Deployments and rollbacks as marks on a line of time.
import type { Schemas } from "../api/client";
import type { Mark } from "../ui/chart";
import { messageOf } from "./versions";

type Deployment = Schemas["Deployment"];
type Decision = Schemas["Decision"];

/** Marks of all that is listed. A rollback's own deployment is told by its decision alone. `told` puts the tags into the API's sentences. */
export function marksOf(deployments: readonly Deployment[], decisions: readonly Decision[], name: (version: string) => string, told = (text: string): string => text): Mark[] {
  const failed = decisions.filter((d) => d.verdict === "fail");
  const rollbacks = new Set(failed.map((d) => d.to_deployment).filter(Boolean));
  return [
    ...deployments.filter((d) => !rollbacks.has(d.id)).map((d): Mark => ({ at: Date.parse(d.created_on) / 1000, text: deploymentText(d, name, told), tone: "accent", glyph: "◆" })),
    ...failed.map((d): Mark => ({ at: Date.parse(d.at) / 1000, text: told(d.sentence), tone: "bad", glyph: d.to_deployment ? "↩" : "!" })),
  ].sort((a, b) => a.at - b.at);
}

function deploymentText(d: Deployment, name: (version: string) => string, told: (text: string) => string): string {
  const split = d.versions.map((v) => `${name(v.version_id)} ${v.percentage} %`).join(", ");
  const message = messageOf(d, told);
  const who = d.author_email ? ` by ${d.author_email}` : "";
  return `Deployment: ${split}${who}${message ? ` – ${message}` : ""}`;
}
