// Who is signed in. The session itself is a cookie that scripts cannot read; what is
// kept here is only what the server says of it.
import { signal } from "@preact/signals";
import { ApiError, call, onSignedOut } from "./api/client";
import { dropDrafts, ownDrafts, tabStorage } from "./lib/drafts";

export interface Account {
  id: string;
  name: string;
  /** What may be done in it. */
  scopes: string[];
}

export interface Session {
  /** The API token that was signed in with, unless there is a person. */
  token?: { id: string; name: string };
  /** Who has signed in at the identity provider. */
  person?: { id: string; email: string; name: string; provider: string };
  operator: boolean;
  /** All accounts that it opens. */
  accounts: Account[];
  expires_on: string;
}

/** undefined: not asked yet; null: nobody. */
export const session = signal<Session | null | undefined>(undefined);

/** The identity provider of the person who has just signed out here, and perhaps not there. */
export const leftProvider = signal<string | undefined>(undefined);

/** Whether a session has ended here without anybody having signed out, as after an hour without use. */
export const hasEnded = signal(false);

onSignedOut(() => {
  if (session.value) hasEnded.value = true;
  session.value = null;
});

function begin(s: Session): void {
  ownDrafts(tabStorage(), s.person?.id ?? s.token?.id ?? "");
  hasEnded.value = false;
  session.value = s;
}

export async function loadSession(): Promise<void> {
  try {
    begin(await call<Session>("GET", "/session"));
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401) throw error;
  }
}

/** What signs in: an API token, the code of a one-time link, or what the identity provider has sent. */
export type Credential = { token: string } | { code: string } | { oidc: { code: string; state: string } };

export async function signIn(credential: Credential): Promise<void> {
  begin(await call<Session>("POST", "/session", { body: credential }));
  leftProvider.value = undefined;
}

/** Signs out, here or in every browser. */
export async function signOut(everywhere: boolean): Promise<void> {
  await call<null>("DELETE", "/session", { query: { everywhere: everywhere || undefined } });
  dropDrafts(tabStorage()); // the next person in this tab may be another one
  leftProvider.value = session.value?.person?.provider;
  session.value = null;
}

/** Who is signed in, for people. */
export function signedInAs(s: Session): string {
  return s.person?.email ?? s.token?.name ?? "";
}

const accountPath = /^\/([0-9a-f]{32})(?:\/|$)/;

/** The account of the address, or the first one that is open. */
export function accountOf(path: string): string | undefined {
  return accountPath.exec(path)?.[1] ?? session.value?.accounts[0]?.id;
}

function scopesIn(account: string | undefined): string[] {
  if (session.value?.operator) return ["admin"]; // also in an account that was made meanwhile
  return session.value?.accounts.find((a) => a.id === account)?.scopes ?? [];
}

/** What may be done in the account that is looked at. */
export function scopesHere(): string[] {
  return scopesIn(accountOf(location.pathname));
}

function allow(has: string[], scopes: readonly string[]): boolean {
  // As the server has it, the right to edit is one to read.
  return has.includes("admin") || scopes.some((scope) => has.includes(scope) || (scope.endsWith(":read") && has.includes(scope.replace(":read", ":edit"))));
}

/** Whether what a scope names may be done here: the server decides, this only hides what it would refuse. */
export function may(...scopes: string[]): boolean {
  return allow(scopesHere(), scopes);
}

/** The areas of an account, each with the scopes of which one opens it. */
const areas = [
  ["workers", "Workers", ["scripts:read"]], ["rollback", "Rollback", ["scripts:read", "policy:edit"]], ["calls", "Calls", ["scripts:read"]],
  ["logpush", "Logpush", ["logs:read"]], ["tokens", "Tokens", ["admin"]], ["audit", "Audit log", ["admin"]],
] as const;

/** Those that may be opened, in the order of the navigation; the first one is where the account begins. */
export function areasOf(account: string): [href: string, text: string][] {
  const has = scopesIn(account);
  return areas.filter(([, , scopes]) => allow(has, scopes)).map(([page, text]) => [`/${account}/${page}`, text]);
}
