// A job's failures as people read them: those that differ only in their batch are one.
import { advise } from "./advice";
import type { JobHealth } from "./api";

type Failure = JobHealth["failures"][number];

export interface FailureGroup {
  /** Of the newest of them. */
  message: string;
  firstOn: string;
  lastOn: string;
  times: number;
  /** In numerical order; null is the whole job, and stands first. */
  partitions: (number | null)[];
  /** What to do, unless a newer failure has said the same. */
  advice: string | undefined;
}

/** What messages of the same failure have in common: batches have ids of job, partition and offset, and records are counted. */
function kindOf(message: string): string {
  return message
    .replace(/\b\d+(-r\d+)?-\d+-\d+(-[0-9a-f]{8})?\b/g, "…")
    .replace(/\b\d{8}T\d{6}Z_\d{8}T\d{6}Z_[0-9a-f]{8}\b/g, "…")
    .replace(/^\d+ of \d+ records /, "records ");
}

/** Puts failures, newest first, together by what they say. */
export function groupFailures(failures: Failure[]): FailureGroup[] {
  const groups = new Map<string, FailureGroup>();
  const advised = new Set<string | undefined>();
  for (const f of failures) {
    const kind = kindOf(f.message);
    const g = groups.get(kind);
    if (g) {
      g.times += f.times;
      if (f.first_on < g.firstOn) g.firstOn = f.first_on;
      if (!g.partitions.includes(f.partition)) g.partitions.push(f.partition);
      continue;
    }
    const advice = advise(f.message);
    groups.set(kind, { message: f.message, firstOn: f.first_on, lastOn: f.last_on, times: f.times, partitions: [f.partition], advice: advised.has(advice) ? undefined : advice });
    advised.add(advice);
  }
  const list = [...groups.values()];
  for (const g of list) g.partitions.sort((a, b) => (a ?? -1) - (b ?? -1));
  return list;
}
