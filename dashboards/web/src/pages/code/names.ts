// What versions are called.
import { namer, tagOf } from "../../lib/versions";
import type { Version } from "./settings";

export type Named = Pick<Version, "id" | "number" | "annotations">;

/** Names versions that are told of beside each other; `partly`: the script has more than these. */
export function namerOf(versions: readonly Named[], partly = false): (version: Named) => string {
  const name = namer(new Map(versions.map((v) => [v.id, tagOf(v)])), partly);
  return (version) => name(version.id);
}

/** A version of which the others are not known here: with the digits of its id, in case that they have its tag, too. */
export const nameOf = (version: Named): string => namerOf([version], true)(version);
