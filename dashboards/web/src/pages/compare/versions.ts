// The versions of a script as charts and tables name them.
import type { Schemas } from "../../api/client";
import { namer, tagOf } from "../../lib/versions";

export interface VersionFacts {
  id: string;
  /** What people call it: its tag, with the first digits of its id where another one has that tag, too. */
  name: string;
  tag: string | undefined;
  /** Index of its colour. It follows the number of the version, so that it is the same everywhere and forever. */
  color: number;
  /** Counts a script's versions from 1; 0 where it is not known, because the version is older than all that are listed. */
  number: number;
  created: Date | undefined;
}

type Listed = Schemas["Version"];
type Deployment = Schemas["Deployment"];

/** All versions that are listed, and those of which only traffic tells, by id. */
export function versionFacts(listed: readonly Listed[], seen: readonly { version_id: string; tag?: string }[]): Map<string, VersionFacts> {
  const facts = new Map<string, VersionFacts>();
  for (const v of listed) {
    facts.set(v.id, { id: v.id, name: "", tag: tagOf(v), color: v.number - 1, number: v.number, created: new Date(v.metadata.created_on) });
  }
  // Versions of an earlier script of the same name, or from before those that are listed.
  let next = listed.length;
  for (const v of [...seen].sort((a, b) => a.version_id.localeCompare(b.version_id))) {
    if (facts.has(v.version_id)) continue;
    facts.set(v.version_id, { id: v.version_id, name: "", tag: v.tag || undefined, color: next++, number: 0, created: undefined });
  }
  const name = namer(new Map(Array.from(facts, ([id, v]) => [id, v.tag])));
  for (const v of facts.values()) v.name = name(v.id);
  return facts;
}

export interface Pair {
  baseline: string;
  candidate: string;
}

/**
 * The two versions that a person most likely wants to compare: those of the newest deployment that has two,
 * or serves another one than the deployment after it did. The later version is the candidate, also after it was rolled back.
 */
export function likelyPair(deployments: readonly Deployment[], versions: ReadonlyMap<string, VersionFacts>): Pair | undefined {
  const found: string[] = [];
  for (const d of deployments) {
    for (const split of [...d.versions].sort((a, b) => b.percentage - a.percentage)) {
      if (!found.includes(split.version_id)) found.push(split.version_id);
    }
    if (found.length >= 2) break;
  }
  for (const v of [...versions.values()].sort((a, b) => b.number - a.number)) {
    if (found.length >= 2) break;
    if (v.created && !found.includes(v.id)) found.push(v.id); // never deployed
  }
  const [a, b] = found;
  if (a === undefined || b === undefined) return undefined;
  const number = (id: string): number => versions.get(id)?.number ?? 0;
  return number(a) <= number(b) ? { baseline: a, candidate: b } : { baseline: b, candidate: a };
}
