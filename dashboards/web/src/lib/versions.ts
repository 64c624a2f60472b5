// What people call versions: by their tags, else by the first digits of their ids.
import type { Schemas } from "../api/client";
import { shortId } from "./format";

type Tagged = Pick<Schemas["Version"], "annotations">;

export function tagOf(version: Tagged): string | undefined {
  return version.annotations["workers/tag"] || undefined;
}

/** A version in a sentence; with the digits behind the tag where `shared` says that others may have that tag, too. */
function nameOf(id: string, tag: string | undefined, shared: boolean): string {
  if (!tag) return shortId(id);
  return shared ? `${tag} (${shortId(id)})` : tag;
}

/** The tags that more than one version has. */
function sharedTags(tags: Iterable<string | undefined>): Set<string> {
  const seen = new Set<string>();
  const shared = new Set<string>();
  for (const tag of tags) {
    if (tag && seen.has(tag)) shared.add(tag);
    if (tag) seen.add(tag);
  }
  return shared;
}

/**
 * Names the versions of one script, whose tags are by whole ids: by its tag, with the digits behind it where another one has that
 * tag, too. `partly` says that there are versions without their tags here, so that nobody knows which tags are shared.
 */
export function namer(tags: ReadonlyMap<string, string | undefined> = new Map(), partly = false): (id: string) => string {
  const shared = sharedTags(tags.values());
  return (id) => {
    const tag = tags.get(id);
    return nameOf(id, tag, partly || (tag !== undefined && shared.has(tag)));
  };
}

const ids = /\b[0-9a-f]{8}(?:(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?\b/g;

/**
 * Puts tags into sentences of the API, which knows versions by their ids, whole or in short:
 * "v2 (1a2b3c4d) failed" where one has a tag. `tags` are by whole ids.
 */
export function tagger(tags: ReadonlyMap<string, string | undefined> = new Map()): (text: string) => string {
  const known = new Map<string, string>();
  for (const [id, tag] of tags) if (tag) known.set(id, tag).set(shortId(id), tag);
  return (text) => text.replace(ids, (found, at: number) => {
    const tag = known.get(found);
    return tag && text[at - 1] !== "(" ? nameOf(found, tag, true) : found; // behind a bracket stands the tag already
  });
}

/** Why a deployment was made. After a rollback by a policy that is the API's sentence, which gets tags; all else stays as people wrote it. */
export function messageOf({ annotations }: Pick<Schemas["Deployment"], "annotations">, told: (text: string) => string): string {
  const message = annotations["workers/message"] ?? "";
  return annotations["workers/triggered_by"] === "rollback" ? told(message) : message;
}
