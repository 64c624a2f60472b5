// A trace event as the topic has it, read into what pages show. Members that are missing
// or of another shape are left out: an event may be older or newer than this page.

export interface Header {
  name: string;
  value: string;
}

export interface Thrown {
  name: string;
  message: string;
  stack: string;
  at: Date | undefined;
}

export interface LogLine {
  level: string;
  text: string;
  at: Date | undefined;
}

export interface TraceEvent {
  /** As it came, for a copy of it. */
  raw: object;
  at: Date;
  type: string;
  outcome: string;
  script: string;
  version: { id: string; tag: string; message: string };
  entrypoint: string;
  ray: string | undefined;
  method: string | undefined;
  url: string | undefined;
  headers: Header[];
  status: number | undefined;
  wallMs: number | undefined;
  cpuMs: number | undefined;
  upstreamMs: number | undefined;
  decision: string | undefined;
  affinityRule: number | undefined;
  /** Further requests that this event stands for, which sampling left out. */
  sampledOut: number;
  errorKind: string | undefined;
  exceptions: Thrown[];
  logs: LogLine[];
  failed: boolean;
}

type Members = Record<string, unknown>;

const members = (value: unknown): Members => (typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Members) : {});
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
const text = (value: unknown): string => (typeof value === "string" ? value : "");
const number = (value: unknown): number | undefined => (typeof value === "number" && Number.isFinite(value) ? value : undefined);
const time = (value: unknown): Date | undefined => (number(value) ? new Date(number(value)!) : undefined);

export function readEvent(raw: object): TraceEvent {
  const e = raw as Members;
  const event = members(e["Event"]);
  const request = members(event["Request"]);
  const gateway = members(e["Gateway"]);
  const version = members(e["ScriptVersion"]);
  const status = number(members(event["Response"])["Status"]);
  const outcome = text(e["Outcome"]);
  return {
    raw,
    at: new Date(number(e["EventTimestampMs"]) ?? NaN),
    type: text(e["EventType"]),
    outcome,
    script: text(e["ScriptName"]),
    version: { id: text(version["id"]), tag: text(version["tag"]), message: text(version["message"]) },
    entrypoint: text(e["Entrypoint"]),
    ray: text(gateway["RayID"]) || text(event["RayID"]) || undefined,
    method: text(request["Method"]) || undefined,
    url: text(request["URL"]) || undefined,
    headers: Object.entries(members(request["Headers"])).map(([name, value]) => ({ name, value: text(value) })),
    status,
    wallMs: number(e["WallTimeMs"]),
    cpuMs: number(e["CPUTimeMs"]),
    upstreamMs: number(gateway["UpstreamMs"]),
    decision: text(gateway["Decision"]) || undefined,
    affinityRule: number(gateway["AffinityRule"]),
    sampledOut: number(gateway["SampledOut"]) ?? 0,
    errorKind: text(e["ErrorKind"]) || undefined,
    exceptions: list(e["Exceptions"]).map(members).map((x) => ({ name: text(x["Name"]), message: text(x["Message"]), stack: text(x["Stack"]), at: time(x["TimestampMs"]) })),
    logs: list(e["Logs"]).map(members).map((l) => ({ level: text(l["Level"]), text: logText(l["Message"]), at: time(l["TimestampMs"]) })),
    failed: failed(outcome, status),
  };
}

/** The rule that rollups and policies share: neither ok nor canceled, or a status of 500 or more. */
export function failed(outcome: string, status: number | undefined): boolean {
  return (outcome !== "ok" && outcome !== "canceled") || (status ?? 0) >= 500;
}

/** The arguments of a console call as a console prints them: strings as they are, others as JSON. */
export function logText(message: unknown): string {
  return list(message).map((part) => (typeof part === "string" ? part : JSON.stringify(part))).join(" ");
}

/** What a URL has behind its host; all of it where it is none. */
export function pathOf(url: string): string {
  const parsed = URL.parse(url);
  return parsed ? parsed.pathname + parsed.search : url;
}

const decisions: Record<string, string> = {
  override: "named by the override header",
  affinity: "chosen by the version key",
  split: "drawn by the percentages",
  only: "the only one that serves",
  object: "assigned to the Durable Object",
  preview: "named by a preview host",
};

/** What chose the version, in words. */
export function decisionText(e: Pick<TraceEvent, "decision" | "affinityRule">): string | undefined {
  if (!e.decision) return undefined;
  const rule = e.affinityRule ? `, by rule ${e.affinityRule}` : "";
  return `${e.decision}: ${decisions[e.decision] ?? "a way that this page does not know"}${rule}`;
}
