// The modules of a version, as the API hands them out and as an editor holds them.
import type { Schemas } from "../../api/client";

export interface Module {
  name: string;
  contentType: string;
  bytes: Uint8Array<ArrayBuffer>;
}

export const moduleTypes = {
  esm: "application/javascript+module",
  commonJS: "application/javascript",
  wasm: "application/wasm",
  text: "text/plain",
  data: "application/octet-stream",
  sourceMap: "application/source-map",
} as const;

const typeNames: Record<string, string> = {
  [moduleTypes.esm]: "ES module",
  [moduleTypes.commonJS]: "CommonJS",
  [moduleTypes.wasm]: "WebAssembly",
  [moduleTypes.text]: "Text",
  [moduleTypes.data]: "Data",
  [moduleTypes.sourceMap]: "Source map",
};

export function typeName(contentType: string): string {
  return typeNames[contentType] ?? contentType;
}

export function modulesOf(version: Schemas["WorkerVersion"]): Module[] {
  return (version.modules ?? []).map((m) => ({ name: m.name, contentType: m.content_type, bytes: bytesOf(m.content_base64) }));
}

function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text of a module that people may edit; undefined for one that is bytes, whatever its type says. */
export function textOf(module: Module): string | undefined {
  const kind = module.contentType;
  if (kind !== moduleTypes.esm && kind !== moduleTypes.commonJS && kind !== moduleTypes.text) return undefined;
  try {
    return utf8.decode(module.bytes);
  } catch {
    return undefined;
  }
}

/** What ends the lines of a text, so that an editor gives every line back as it was. Where both do, "\r" is part of a line. */
export function lineEnd(text: string): "\n" | "\r\n" {
  return /\r\n/.test(text) && !/(^|[^\r])\n/.test(text) ? "\r\n" : "\n";
}

export type Language = "javascript" | "typescript" | "jsx" | "tsx" | "json" | "python" | "text";

const languages: Record<string, Language> = {
  js: "javascript", mjs: "javascript", cjs: "javascript", ts: "typescript", mts: "typescript", cts: "typescript",
  jsx: "jsx", tsx: "tsx", json: "json", map: "json", webmanifest: "json", py: "python",
};

/** How a module is highlighted: by the end of its name, else by its type. */
export function languageOf(name: string, contentType: string): Language {
  const file = name.slice(name.lastIndexOf("/") + 1);
  const at = file.lastIndexOf(".");
  const end = file.slice(at + 1).toLowerCase();
  if (at >= 0 && Object.hasOwn(languages, end)) return languages[end]!;
  return contentType === moduleTypes.esm || contentType === moduleTypes.commonJS ? "javascript" : "text";
}

/** The type that a new module gets by its name. */
export function typeOfName(name: string): string {
  if (/\.c[jt]s$/i.test(name)) return moduleTypes.commonJS;
  return /\.m?[jt]sx?$/i.test(name) ? moduleTypes.esm : moduleTypes.text;
}

const nameBytesMax = 1024;

/** Why a module cannot have this name; undefined if it can. `others` are the names of the other modules. */
export function nameProblem(name: string, others: readonly string[]): string | undefined {
  if (name === "") return "A module needs a name.";
  if (others.includes(name)) return `There is a module ${name} already.`;
  if (name === "metadata") return "A module cannot be called metadata: the upload has a part of that name.";
  if (new TextEncoder().encode(name).length > nameBytesMax) return `The name is longer than ${nameBytesMax} bytes.`;
  // Browsers write quotes in the names of parts in a way of their own, so that another name would arrive.
  if (/[\p{Cc}\\"]/u.test(name)) return "A name has no quotes, backslashes and control characters.";
  if (name.startsWith("/") || name.split("/").includes("..")) return "A name stays inside the version’s folder: no slash at its begin, no “..”.";
  return undefined;
}

/** Sizes of a version's modules together, in bytes. */
export function totalBytes(modules: readonly Module[]): number {
  return modules.reduce((sum, m) => sum + m.bytes.length, 0);
}
