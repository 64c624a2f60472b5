// What an identity provider sends somebody back to /login with, in the query. It is good for
// one use, and leaves the address bar, and with it the history, as soon as this file is loaded.
import { tabStorage } from "../../lib/drafts";

export type Homecoming = { oidc: { code: string; state: string } } | { refused: string };

export function homecomingOf(search: string): Homecoming | undefined {
  const sent = new URLSearchParams(search);
  const [state, code, error] = [sent.get("state"), sent.get("code"), sent.get("error")];
  if (state === null) return undefined;
  if (code !== null) return { oidc: { code, state } };
  // Anybody can write an address: what is shown of it is one of the protocol's words.
  if (error !== null) return { refused: /^[a-z_]{1,40}$/.test(error) ? error.replaceAll("_", " ") : "it does not say why" };
  return undefined;
}

let home = location.pathname === "/login" ? homecomingOf(location.search) : undefined;
if (home) history.replaceState(history.state, "", location.pathname);

/** What was in the address when the page was loaded; a second call has nothing. */
export function takenHomecoming(): Homecoming | undefined {
  const taken = home;
  home = undefined;
  return taken;
}

const nextKey = "tidegate.next";

/** Keeps, for this tab, the page that was asked for while its user is at the provider. */
export function keepNext(next: string | undefined): void {
  if (next === undefined) tabStorage()?.removeItem(nextKey);
  else tabStorage()?.setItem(nextKey, next);
}

export function takenNext(): string | undefined {
  const next = tabStorage()?.getItem(nextKey) ?? undefined;
  tabStorage()?.removeItem(nextKey);
  return next;
}
