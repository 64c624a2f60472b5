// The code of a one-time link, which is behind the # of /login, where no server sees it.
// It leaves the address bar, and with it the history, as soon as this file is loaded.

export function codeOf(hash: string): string | undefined {
  return new URLSearchParams(hash.replace(/^#/, "")).get("code") ?? undefined;
}

/** The login page, however many slashes are at its end. */
const login = /^\/login\/*$/;

let code: string | undefined;

function take(): void {
  if (!login.test(location.pathname)) return;
  const found = codeOf(location.hash);
  if (found === undefined) return;
  code = found;
  history.replaceState(history.state, "", location.pathname + location.search);
}

take();

/** The code that was in the address when it was last looked at; a second call has none. */
export function takenCode(): string | undefined {
  take();
  const taken = code;
  code = undefined;
  return taken;
}

/** Where to go after signing in: a page of this server, and none that begins the same anew. */
export function destination(next: string | undefined, origin: string): string {
  if (next === undefined) return "/";
  let url: URL;
  try {
    url = new URL(next, origin);
  } catch {
    return "/";
  }
  // A path that begins with // would be an address of another host.
  if (url.origin !== origin || url.pathname.startsWith("//") || login.test(url.pathname)) return "/";
  return url.pathname + url.search;
}
