// What versions are called.
import { shortId } from "../../lib/format";
import type { Version } from "./settings";

/** What a name is made of. */
export type Named = Pick<Version, "id" | "number" | "annotations">;

export function tagOf(version: Named): string | undefined {
  return version.annotations["workers/tag"] || undefined;
}

/** A version in a sentence: its tag, else the first digits of its id. */
export function nameOf(version: Named): string {
  return tagOf(version) ?? shortId(version.id);
}
