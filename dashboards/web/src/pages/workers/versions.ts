// What people call versions, and which colour they have.
import type { Schemas } from "../../api/client";
import { namer, tagger, tagOf } from "../../lib/versions";

type Listed = Pick<Schemas["Version"], "id" | "number" | "annotations">;

export interface VersionNames {
  /** The tag, with the first digits of the id where another version has that tag, too. */
  name: (id: string) => string;
  tag: (id: string) => string | undefined;
  /** A sentence of the API with the tags of the versions in it. */
  told: (text: string) => string;
  /** Counts a script's versions from 1; 0 for one that is not listed. */
  number: (id: string) => number;
  /** Index of its colour, which follows from its number; undefined where that is not known. */
  series: (id: string) => number | undefined;
}

export function versionNames(listed: readonly Listed[], deployments: readonly { versions: readonly { version_id: string }[] }[] = []): VersionNames {
  const tags = new Map(listed.map((v) => [v.id, tagOf(v)]));
  const numbers = new Map(listed.map((v) => [v.id, v.number]));
  // Versions that are too old to be listed may have a tag of the list.
  const old = deployments.some((d) => d.versions.some((s) => !tags.has(s.version_id)));
  const number = (id: string): number => numbers.get(id) ?? 0;
  return {
    number,
    name: namer(tags, old),
    tag: (id) => tags.get(id),
    told: tagger(tags),
    series: (id) => (number(id) > 0 ? number(id) - 1 : undefined),
  };
}
