// A new version made of an earlier one and of edited code: what `wrangler versions
// upload` sends, with everything kept that nobody changed.
import { isTemplate } from "./first";
import type { Binding, Version } from "./settings";
import type { Module } from "./modules";

export interface Edited {
  /** All modules of the new version; the main one is among them. */
  modules: Module[];
  main: string;
  compatibilityDate: string;
  compatibilityFlags: string[];
  tag: string;
  message: string;
}

interface Inherit {
  name: string;
  type: "inherit";
  version_id?: string;
}

/**
 * The bindings of a new version: those of the version that it was made of. Secrets have the
 * value of the newest version where it has them, because that is where people change them;
 * the server keeps those that only the newest version has. Those of the template are in no version yet.
 */
export function bindingsFor(base: Version, newest: Version): (Inherit | Binding)[] {
  if (isTemplate(base)) return base.bindings;
  const current = new Set(newest.bindings.filter((b) => b.type === "secret_text").map((b) => b.name));
  return base.bindings.map((b) => b.type === "secret_text" && current.has(b.name)
    ? { name: b.name, type: "inherit" }
    : { name: b.name, type: "inherit", version_id: base.id });
}

export function metadataFor(base: Version, newest: Version, edited: Edited): Record<string, unknown> {
  const { placement, package_dependencies, exports, cache_options } = base;
  return {
    main_module: edited.main,
    bindings: bindingsFor(base, newest),
    compatibility_date: edited.compatibilityDate || undefined,
    compatibility_flags: edited.compatibilityFlags,
    usage_model: base.usage_model,
    limits: base.limits,
    placement, package_dependencies, exports, cache_options,
    annotations: { "workers/tag": edited.tag || undefined, "workers/message": edited.message || undefined },
  };
}

export function formFor(base: Version, newest: Version, edited: Edited): FormData {
  const form = new FormData();
  form.set("metadata", JSON.stringify(metadataFor(base, newest, edited)));
  for (const m of edited.modules) form.append(m.name, new Blob([m.bytes], { type: m.contentType }), m.name);
  return form;
}

/** Flags as people type them, separated by spaces or commas. */
export function parseFlags(text: string): string[] {
  return [...new Set(text.split(/[\s,]+/).filter(Boolean))];
}
