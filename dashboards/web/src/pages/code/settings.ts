// Everything of a version beside its code, in rows that people can read and compare.
import type { Schemas } from "../../api/client";

export type Version = Schemas["WorkerVersion"];
export type Binding = Schemas["Binding"];

export interface Setting {
  group: "Binding" | "Runtime" | "Origin";
  name: string;
  /** For bindings their type. */
  kind?: string;
  /** undefined: nobody is shown it. */
  value: string | undefined;
}

export type Change = "added" | "removed" | "changed" | "same" | "unknown";

export interface SettingChange {
  group: Setting["group"];
  name: string;
  change: Change;
  before: Setting | undefined;
  after: Setting | undefined;
}

const bindingNames: Record<Binding["type"], string> = {
  plain_text: "Text", json: "JSON", secret_text: "Secret", service: "Service", version_metadata: "Version metadata",
  wasm_module: "WebAssembly", text_blob: "Text module", data_blob: "Data module", durable_object_namespace: "Durable Object",
};

export function bindingKind(binding: Binding): string {
  return bindingNames[binding.type] ?? binding.type;
}

/** What a binding gives to the code, in words; undefined for a secret, which no answer of the API has. */
export function bindingValue(binding: Binding): string | undefined {
  switch (binding.type) {
    case "secret_text": return undefined;
    case "plain_text": return binding.text ?? "";
    case "json": return JSON.stringify(binding.json);
    case "service": return [binding.service, binding.entrypoint && `entry point ${binding.entrypoint}`, binding.props && `props ${stable(binding.props)}`].filter(Boolean).join(", ");
    case "version_metadata": return "id, tag and time of the version";
    case "durable_object_namespace": return `class ${binding.class_name ?? ""}${binding.script_name ? ` of ${binding.script_name}` : ""}`;
    default: return `module ${binding.part ?? ""}`;
  }
}

/** JSON whose members are in the order of their names, so that equal values are equal texts. */
function stable(value: unknown): string {
  return JSON.stringify(value, (_, v: unknown) =>
    v !== null && typeof v === "object" && !Array.isArray(v) ? Object.fromEntries(Object.entries(v).sort(([a], [b]) => (a < b ? -1 : 1))) : v);
}

export function settingsOf(version: Version): Setting[] {
  const list: Setting[] = version.bindings.map((b) => ({
    group: "Binding", name: b.name, kind: bindingKind(b), value: b.type === "json" ? stable(b.json) : bindingValue(b),
  }));
  const add = (group: Setting["group"], name: string, value: unknown): void => {
    if (value === undefined || (Array.isArray(value) && value.length === 0)) return;
    list.push({ group, name, value: typeof value === "string" ? value : typeof value === "object" ? stable(value) : String(value) });
  };
  if (version.origin) {
    for (const [name, value] of Object.entries(version.origin)) {
      if (name === "endpoints") for (const e of version.origin.endpoints ?? []) add("Origin", `Endpoint ${e.url}`, `weight ${e.weight ?? 1}`);
      else if (value !== null && typeof value === "object") for (const [inner, v] of Object.entries(value)) add("Origin", `${words(name)}: ${words(inner)}`, v);
      else add("Origin", name === "url" ? "URL" : words(name), value);
    }
    return list;
  }
  add("Runtime", "Main module", version.main_module);
  add("Runtime", "Compatibility date", version.compatibility_date);
  for (const flag of version.compatibility_flags) add("Runtime", `Compatibility flag ${flag}`, "set");
  add("Runtime", "Usage model", version.usage_model);
  add("Runtime", "CPU limit", version.limits.cpu_ms === undefined ? undefined : `${version.limits.cpu_ms} ms`);
  add("Runtime", "Subrequest limit", version.limits.subrequests);
  add("Runtime", "Placement", version.placement);
  add("Runtime", "Declared exports", version.exports);
  add("Runtime", "Cache options", version.cache_options);
  add("Runtime", "Migration tag", version.migration_tag);
  add("Runtime", "Package dependencies", version.package_dependencies);
  return list;
}

function words(name: string): string {
  const text = name.replaceAll("_ms", " (ms)").replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** What differs from one version to the next, and what does not, in the order of groups and names. */
export function compareSettings(before: Version, after: Version): SettingChange[] {
  const key = (s: Setting): string => `${s.group} ${s.name}`;
  const old = new Map(settingsOf(before).map((s) => [key(s), s]));
  const now = new Map(settingsOf(after).map((s) => [key(s), s]));
  return [...new Set([...old.keys(), ...now.keys()])].map((k) => {
    const b = old.get(k), a = now.get(k);
    const { group, name } = (a ?? b)!;
    return { group, name, change: changeOf(b, a), before: b, after: a };
  }).sort((x, y) => groups.indexOf(x.group) - groups.indexOf(y.group) || (x.name < y.name ? -1 : 1));
}

const groups: Setting["group"][] = ["Binding", "Runtime", "Origin"];

function changeOf(before: Setting | undefined, after: Setting | undefined): Change {
  if (!before) return "added";
  if (!after) return "removed";
  if (before.kind !== after.kind) return "changed";
  if (before.value === undefined || after.value === undefined) return "unknown"; // secrets: nobody but the runtime knows
  return before.value === after.value ? "same" : "changed";
}
