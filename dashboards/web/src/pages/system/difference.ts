// What changed between two JSON values, leaf by leaf.

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

export interface Change {
  /** Where, such as `versions[0].percentage`; "" is the value itself. */
  path: string;
  /** undefined: it was not there. */
  before: Json | undefined;
  after: Json | undefined;
}

const isObject = (v: Json | undefined): v is { [name: string]: Json } => typeof v === "object" && v !== null && !Array.isArray(v);

/**
 * Lists the leaves that differ, in the order of the values. What is in one of them only is
 * listed leaf by leaf too, so that a long new document reads like one.
 */
export function differences(before: Json | undefined, after: Json | undefined, path = ""): Change[] {
  const names = namesOf(before, after);
  if (names === undefined) return same(before, after) ? [] : [{ path, before, after }];
  return names.flatMap((name) => differences(at(before, name), at(after, name), join(path, name)));
}

/** The members to look at, or undefined where the two are to be compared as a whole. */
function namesOf(a: Json | undefined, b: Json | undefined): (string | number)[] | undefined {
  const kinds = [a, b].filter((v) => v !== undefined);
  if (kinds.length === 0) return undefined;
  if (kinds.every(isObject)) {
    const all = [...new Set(kinds.flatMap((v) => Object.keys(v as object)))];
    return all.length > 0 ? all : undefined;
  }
  if (kinds.every(Array.isArray)) {
    const length = Math.max(...kinds.map((v) => (v as Json[]).length));
    return length > 0 ? Array.from({ length }, (_, i) => i) : undefined;
  }
  return undefined;
}

function at(v: Json | undefined, name: string | number): Json | undefined {
  if (Array.isArray(v)) return v[name as number];
  // A member may be called like one of Object.prototype's.
  return isObject(v) && Object.hasOwn(v, name) ? v[name] : undefined;
}

function join(path: string, name: string | number): string {
  if (typeof name === "number") return `${path}[${name}]`;
  return path === "" ? name : `${path}.${name}`;
}

function same(a: Json | undefined, b: Json | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && JSON.stringify(a) === JSON.stringify(b));
}

/** A leaf as text: strings as they are, the rest as JSON. */
export function leafText(v: Json): string {
  return typeof v === "string" ? v : JSON.stringify(v);
}
