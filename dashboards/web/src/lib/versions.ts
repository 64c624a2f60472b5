// What people call versions: by their tags, else by the first digits of their ids.
import type { Schemas } from "../api/client";
import { shortId } from "./format";

type Tagged = Pick<Schemas["Version"], "annotations">;

export function tagOf(version: Tagged): string | undefined {
  return version.annotations["workers/tag"] || undefined;
}

/** A version in a sentence; with the digits behind the tag where `shared` says that others may have that tag, too. */
export function nameOf(id: string, tag: string | undefined, shared = false): string {
  if (!tag) return shortId(id);
  return shared ? `${tag} (${shortId(id)})` : tag;
}

/** The tags that more than one version has. */
export function sharedTags(tags: Iterable<string | undefined>): Set<string> {
  const seen = new Set<string>();
  const shared = new Set<string>();
  for (const tag of tags) {
    if (tag && seen.has(tag)) shared.add(tag);
    if (tag) seen.add(tag);
  }
  return shared;
}
