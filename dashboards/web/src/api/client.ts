// The one place that speaks HTTP. Every answer of the API is an envelope; callers
// get its result, or an ApiError with the server's own sentences.
import { hearClock } from "../lib/clock";
import type { components } from "./schema.gen";

export type Schemas = components["schemas"];

/** One entry of an envelope's `errors` or `messages`. */
export interface Message {
  code: number;
  message: string;
  source?: { pointer?: string };
}

export interface ResultInfo {
  page: number;
  per_page: number;
  count: number;
  total_count: number;
}

export interface Page<T> {
  items: T[];
  info: ResultInfo | undefined;
}

interface Envelope {
  success: boolean;
  errors: Message[];
  messages: Message[];
  result: unknown;
  result_info?: ResultInfo;
}

/** What the server refused, or why it could not be asked: `status` is 0 then. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly messages: Message[],
    readonly requestId: string | undefined,
  ) {
    super(messages.map((m) => m.message).join("; "));
    this.name = "ApiError";
  }
}

export type Query = Record<string, string | number | boolean | undefined>;

export interface RequestOptions {
  query?: Query;
  /** A plain value is sent as JSON, a FormData or Blob as it is. */
  body?: unknown;
  signal?: AbortSignal;
  headers?: Record<string, string>;
}

type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** Called when the server no longer knows the session. Set once, by session.ts. */
let signedOut: () => void = () => {};
export function onSignedOut(f: () => void): void {
  signedOut = f;
}

/** Joins path segments, each escaped: `path("accounts", id)`. */
export function path(...segments: string[]): string {
  return "/client/v4/" + segments.map(encodeURIComponent).join("/");
}

/** Of a script: `scriptPath(account, script, "versions")`. */
export function scriptPath(account: string, script: string, ...rest: string[]): string {
  return path("accounts", account, "workers", "scripts", script, ...rest);
}

export function withQuery(url: string, query: Query | undefined): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined && value !== "") parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return text === "" ? url : `${url}?${text}`;
}

/** Sends one request below this origin and returns the answer, whatever its status. */
export async function send(method: Method, url: string, options: RequestOptions = {}): Promise<Response> {
  const init: RequestInit = { method, credentials: "same-origin", headers: { ...options.headers } };
  if (options.signal) init.signal = options.signal;
  if (options.body instanceof FormData || options.body instanceof Blob) {
    init.body = options.body;
  } else if (options.body !== undefined) {
    init.body = JSON.stringify(options.body);
    (init.headers as Record<string, string>)["Content-Type"] = "application/json";
  }
  const asked = Date.now();
  try {
    const response = await fetch(withQuery(url, options.query), init);
    hearClock(response.headers.get("Date"), asked, Date.now());
    return response;
  } catch (cause) {
    if (options.signal?.aborted) throw cause;
    const text = "The control plane cannot be reached: is it running, and is this machine online?";
    throw new ApiError(0, [{ code: 0, message: text }], undefined);
  }
}

/** Throws the ApiError of an answer that is none of success. */
export async function refuse(response: Response): Promise<never> {
  const id = response.headers.get("X-Request-Id") ?? undefined;
  if (response.status === 401) signedOut();
  let messages: Message[] = [];
  try {
    messages = ((await response.json()) as Envelope).errors;
  } catch {
    // Not an envelope: a proxy in between answered.
  }
  if (!Array.isArray(messages) || messages.length === 0) {
    messages = [{ code: 0, message: `The server answered ${response.status} ${response.statusText}`.trim() }];
  }
  throw new ApiError(response.status, messages, id);
}

async function envelope(method: Method, url: string, options?: RequestOptions): Promise<Envelope> {
  const response = await send(method, url, options);
  if (!response.ok) return refuse(response);
  return (await response.json()) as Envelope;
}

/** The `result` of an answer. */
export async function call<T>(method: Method, url: string, options?: RequestOptions): Promise<T> {
  return (await envelope(method, url, options)).result as T;
}

export const get = <T>(url: string, options?: RequestOptions): Promise<T> => call<T>("GET", url, options);

/** A page of a list, with what the server says of the others. */
export async function getPage<T>(url: string, options?: RequestOptions): Promise<Page<T>> {
  const answer = await envelope("GET", url, options);
  return { items: (answer.result ?? []) as T[], info: answer.result_info };
}
