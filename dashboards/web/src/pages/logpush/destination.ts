// A destination_conf is a URL, scheme://host/path?parameters. Here it becomes the
// fields of a form, by the table of kinds, and a URL again.
import table from "./kinds.json";

export interface Parameter {
  name: string;
  label: string;
  required?: boolean;
  secret?: boolean;
  hint?: string;
  placeholder?: string;
  /** The values that there are; any without. */
  options?: string[];
  /** Stands before what is typed, as "Bearer ". */
  prefix?: string;
  /** What is typed is sent as base64: and its Base64. */
  base64?: boolean;
}

export interface Kind {
  id: string;
  scheme: string;
  name: string;
  group: string;
  /** A parameter by which a URL of a shared scheme is told to be of this kind. */
  when?: string;
  host?: { label: string; hint?: string; placeholder?: string };
  /** A secret path is not shown beside jobs; one that is hidden is a credential, and not shown while it is typed either. */
  path?: { label: string; hint?: string; placeholder?: string; required?: boolean; secret?: boolean; hidden?: boolean; default?: string };
  /** A user and a password may stand before the host. */
  login?: boolean;
  /** header_<Name> may be set. */
  headers?: boolean;
  /** Parameters of a prefix and any name. */
  open?: { prefix: string; label: string; name: string };
  parameters: Parameter[];
  /** Parameters that no field names stay as they are written. */
  rest?: { label: string; hint?: string; secret?: boolean; required?: boolean };
  /** Without this parameter it is written to with the operator's credentials, and ownership must be proved. */
  challengeWithout?: string;
  /** A destination_conf that uses every parameter; tests open it with the real destination. */
  example: string;
}

export const kinds = table as Kind[];

export type Pair = [name: string, value: string];

/** What a form holds of a destination. */
export interface Destination {
  kind: string;
  host: string;
  /** Without the slash at its beginning. */
  path: string;
  user: string;
  password: string;
  /** As typed, by name; one that is empty is left out of the URL. */
  parameters: Record<string, string>;
  headers: Pair[];
  open: Pair[];
  rest: string;
}

export function kindOf(id: string): Kind {
  const kind = kinds.find((k) => k.id === id);
  if (!kind) throw new Error(`no kind of destination is called ${id}`);
  return kind;
}

export function emptyDestination(kind: Kind): Destination {
  return { kind: kind.id, host: "", path: kind.path?.default ?? "", user: "", password: "", parameters: {}, headers: [], open: [], rest: "" };
}

/** Whether the operator's credentials write there, so that ownership is asked for. */
export function needsChallenge(d: Destination): boolean {
  const { challengeWithout } = kindOf(d.kind);
  return challengeWithout !== undefined && !d.parameters[challengeWithout];
}

// Characters that mean nothing in a parameter stay as people write them.
const escape = (text: string): string => encodeURIComponent(text).replace(/%(3A|2F|2C|40)/g, (code) => decodeURIComponent(code));
// A placeholder's braces stay, and so does what may stand in a path.
const escapePath = (text: string): string => encodeURI(text).replace(/[?#]/g, encodeURIComponent).replace(/%7B/g, "{").replace(/%7D/g, "}");

/** Throws URIError for what is not URL-encoded. */
const unescape = (text: string): string => decodeURIComponent(text.replaceAll("+", " "));

function toBase64(text: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

function fromBase64(text: string): string {
  return new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
}

function written(p: Parameter, typed: string): string {
  return p.base64 ? `base64:${toBase64(typed)}` : (p.prefix ?? "") + typed;
}

function typed(p: Parameter, value: string): string {
  const prefix = p.base64 ? "base64:" : (p.prefix ?? "");
  if (!value.startsWith(prefix)) throw new Error(`${p.name} does not begin with ${prefix}`);
  const rest = value.slice(prefix.length);
  return p.base64 ? fromBase64(rest) : rest;
}

export function buildConf(d: Destination): string {
  const kind = kindOf(d.kind);
  const login = !kind.login || d.user === "" ? "" : d.password === "" ? `${encodeURIComponent(d.user)}@` : `${encodeURIComponent(d.user)}:${encodeURIComponent(d.password)}@`;
  const path = d.path.replace(/^\/+/, "");
  const query = kind.parameters.filter((p) => d.parameters[p.name]).map((p) => `${escape(p.name)}=${escape(written(p, d.parameters[p.name]!))}`);
  if (kind.open) for (const [name, value] of d.open) if (name !== "") query.push(`${kind.open.prefix}${escape(name)}=${escape(value)}`);
  if (kind.headers) for (const [name, value] of d.headers) if (name !== "") query.push(`header_${escape(name)}=${escape(value)}`);
  if (kind.rest && d.rest !== "") query.push(d.rest.replace(/^\?/, ""));
  const base = `${kind.scheme}://${login}${d.host.trim()}${kind.path && path !== "" ? `/${escapePath(path)}` : ""}`;
  return query.length === 0 ? base : `${base}?${query.join("&")}`;
}

/**
 * Reads a destination_conf into fields, or returns undefined for one that they cannot
 * hold: an unknown scheme, or text that they would write in another way. It is edited
 * as it is then, because a receiver may compare it, and a proof of ownership does.
 */
export function parseConf(conf: string): Destination | undefined {
  try {
    const d = read(conf);
    return d && sameConf(buildConf(d), conf) ? d : undefined;
  } catch {
    return undefined; // not URL-encoded, or not Base64
  }
}

// The order of parameters means nothing to any destination; their text does.
function sameConf(a: string, b: string): boolean {
  const parts = (conf: string): string => {
    const [base, query = ""] = split(conf, "?");
    return [base, ...query.split("&").sort()].join("\n");
  };
  return parts(a) === parts(b);
}

function split(text: string, at: string): [string, string | undefined] {
  const i = text.indexOf(at);
  return i < 0 ? [text, undefined] : [text.slice(0, i), text.slice(i + at.length)];
}

function read(conf: string): Destination | undefined {
  const [scheme, remainder] = split(conf, "://");
  if (remainder === undefined || remainder.includes("#")) return undefined;
  const [base, query = ""] = split(remainder, "?");
  const pairs = query.split("&").filter((p) => p !== "");
  const names = pairs.map((pair) => unescape(split(pair, "=")[0]));
  const kind = kinds.find((k) => k.scheme === scheme && (k.when === undefined || names.includes(k.when)));
  if (!kind) return undefined;
  const d = emptyDestination(kind);
  const [authority, path] = split(base, "/");
  const at = authority.lastIndexOf("@");
  d.host = authority.slice(at + 1);
  if (at >= 0) [d.user, d.password] = readLogin(authority.slice(0, at));
  d.path = path === undefined ? "" : decodeURIComponent(path);
  const rest: string[] = [];
  pairs.forEach((pair, i) => {
    if (!take(d, kind, names[i]!, unescape(split(pair, "=")[1] ?? ""))) rest.push(pair);
  });
  if (rest.length > 0 && !kind.rest) return undefined;
  d.rest = rest.join("&");
  return d;
}

function readLogin(text: string): [user: string, password: string] {
  const [user, password = ""] = split(text, ":");
  return [decodeURIComponent(user), decodeURIComponent(password)];
}

/** Puts a parameter into its field; false where there is none. */
function take(d: Destination, kind: Kind, name: string, value: string): boolean {
  const parameter = kind.parameters.find((p) => p.name === name);
  if (parameter) {
    if (name in d.parameters) throw new Error(`${name} is given twice`);
    d.parameters[name] = typed(parameter, value);
  } else if (kind.headers && name.startsWith("header_")) {
    d.headers.push([name.slice("header_".length), value]);
  } else if (kind.open && name.startsWith(kind.open.prefix)) {
    d.open.push([name.slice(kind.open.prefix.length), value]);
  } else {
    return false;
  }
  return true;
}

const masked = "***";

/** A destination_conf with its credentials hidden, for showing; one that no form can hold is hidden but for its scheme. */
export function maskConf(conf: string): string {
  const d = parseConf(conf);
  if (!d) return `${split(conf, "://")[0].slice(0, 20)}://${masked}`;
  const kind = kindOf(d.kind);
  const hide = (text: string): string => (text === "" ? "" : masked);
  const query: string[] = kind.parameters.filter((p) => d.parameters[p.name]).map((p) => `${p.name}=${p.secret ? masked : escape(written(p, d.parameters[p.name]!))}`);
  query.push(...d.open.map(([name, value]) => `${kind.open!.prefix}${escape(name)}=${escape(value)}`), ...d.headers.map(([name]) => `header_${escape(name)}=${masked}`));
  if (d.rest !== "") query.push(kind.rest?.secret ? masked : d.rest);
  const path = kind.path?.secret ? hide(d.path) : escapePath(d.path);
  const login = d.user === "" ? "" : `${masked}@`;
  return `${kind.scheme}://${login}${d.host}${path === "" ? "" : `/${path}`}${query.length === 0 ? "" : `?${query.join("&")}`}`;
}

/** A destination_conf without its credentials, as it may be kept; "" for one that no form can hold. */
export function withoutCredentials(conf: string): string {
  const d = parseConf(conf);
  if (!d) return "";
  const kind = kindOf(d.kind);
  const parameters = { ...d.parameters };
  for (const p of kind.parameters) if (p.secret) delete parameters[p.name];
  return buildConf({
    ...d, parameters, user: "", password: "", path: kind.path?.secret || kind.path?.hidden ? "" : d.path,
    headers: d.headers.map(([name]) => [name, ""]), rest: kind.rest?.secret ? "" : d.rest,
  });
}

/** The labels of required fields that are empty. */
export function missingOf(d: Destination): string[] {
  const kind = kindOf(d.kind);
  const missing = kind.parameters.filter((p) => p.required && !d.parameters[p.name]).map((p) => p.label);
  if (kind.host && d.host.trim() === "") missing.unshift(kind.host.label);
  if (kind.path?.required && d.path === "") missing.push(kind.path.label);
  if (kind.rest?.required && d.rest === "") missing.push(kind.rest.label);
  return missing;
}
