// What people call versions, and which colour they have.
import { shortId } from "../../lib/format";
import type { Schemas } from "../../api/client";

type Listed = Pick<Schemas["Version"], "id" | "number" | "annotations">;

export interface VersionNames {
  /** The tag, with the first digits of the id where another version has that tag, too. */
  name: (id: string) => string;
  tag: (id: string) => string | undefined;
  /** Counts a script's versions from 1; 0 for one that is not listed. */
  number: (id: string) => number;
  /** Index of its colour, which follows from its number; undefined where that is not known. */
  series: (id: string) => number | undefined;
}

export function versionNames(listed: readonly Listed[], deployments: readonly { versions: readonly { version_id: string }[] }[] = []): VersionNames {
  const byId = new Map(listed.map((v) => [v.id, v]));
  const uses = new Map<string, number>();
  for (const v of listed) {
    const tag = v.annotations["workers/tag"];
    if (tag) uses.set(tag, (uses.get(tag) ?? 0) + 1);
  }
  // Of versions that are too old to be listed, nobody knows whether they have a tag of the list.
  const old = deployments.some((d) => d.versions.some((s) => !byId.has(s.version_id)));
  const tag = (id: string): string | undefined => byId.get(id)?.annotations["workers/tag"] || undefined;
  const number = (id: string): number => byId.get(id)?.number ?? 0;
  return {
    tag, number,
    name: (id) => {
      const known = tag(id);
      if (!known) return shortId(id);
      return old || uses.get(known)! > 1 ? `${known} (${shortId(id)})` : known;
    },
    series: (id) => (number(id) > 0 ? number(id) - 1 : undefined),
  };
}
