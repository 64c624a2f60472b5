// What versions are called.
import { nameOf as nameWith, tagOf } from "../../lib/versions";
import type { Version } from "./settings";

export type Named = Pick<Version, "id" | "number" | "annotations">;

export const nameOf = (version: Named): string => nameWith(version.id, tagOf(version));
