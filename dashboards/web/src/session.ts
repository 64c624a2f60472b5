// Who is signed in. The session itself is a cookie that scripts cannot read; what is
// kept here is only what the server says of it.
import { signal } from "@preact/signals";
import { ApiError, call, onSignedOut } from "./api/client";
import { dropDrafts, tabStorage } from "./pages/code/draft";

export interface Account {
  id: string;
  name: string;
}

export interface Session {
  /** The API token that was signed in with. */
  token: { id: string; name: string; scopes: string[]; operator: boolean };
  /** All accounts that it opens. */
  accounts: Account[];
  expires_on: string;
}

/** undefined: not asked yet; null: nobody. */
export const session = signal<Session | null | undefined>(undefined);

onSignedOut(() => {
  session.value = null;
});

export async function loadSession(): Promise<void> {
  try {
    session.value = await call<Session>("GET", "/session");
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401) throw error;
  }
}

/** Signs in with an API token, or with the code of a one-time link. */
export async function signIn(credential: { token: string } | { code: string }): Promise<void> {
  session.value = await call<Session>("POST", "/session", { body: credential });
}

export async function signOut(): Promise<void> {
  await call<null>("DELETE", "/session");
  dropDrafts(tabStorage()); // the next person in this tab may be another one
  session.value = null;
}

/** Whether the token may do what scope names: the server decides, this only hides what it would refuse. */
export function may(...scopes: string[]): boolean {
  const has = session.value?.token.scopes ?? [];
  // As the server has it, the right to edit is one to read.
  return has.includes("admin") || scopes.some((scope) => has.includes(scope) || (scope.endsWith(":read") && has.includes(scope.replace(":read", ":edit"))));
}
