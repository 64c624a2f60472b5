// Which modules differ between two versions.
import type { Module } from "./modules";
import type { Change } from "./settings";

export interface ModuleChange {
  name: string;
  change: Exclude<Change, "unknown">;
  before: Module | undefined;
  after: Module | undefined;
}

/** All modules of both versions: first those that differ, each group in the order of names. */
export function compareModules(before: readonly Module[], after: readonly Module[]): ModuleChange[] {
  const old = new Map(before.map((m) => [m.name, m]));
  const now = new Map(after.map((m) => [m.name, m]));
  return [...new Set([...old.keys(), ...now.keys()])].map((name): ModuleChange => {
    const b = old.get(name), a = now.get(name);
    return { name, change: changeOf(b, a), before: b, after: a };
  }).sort((x, y) => Number(x.change === "same") - Number(y.change === "same") || (x.name < y.name ? -1 : 1));
}

function changeOf(before: Module | undefined, after: Module | undefined): ModuleChange["change"] {
  if (!before) return "added";
  if (!after) return "removed";
  return before.contentType === after.contentType && equal(before.bytes, after.bytes) ? "same" : "changed";
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
