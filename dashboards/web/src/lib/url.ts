// State that belongs to a page lives in its address, so that what one person sees can
// be sent to another.
import { useLocation } from "preact-iso";

/** The address of a page of a script: `scriptPage(account, script, "versions", id)`. */
export function scriptPage(account: string, script: string, ...rest: string[]): string {
  return ["", account, "workers", script, ...rest].map(encodeURIComponent).join("/");
}

export type Changes = Record<string, string | undefined>;

/** The path of the page that is shown now, as the router writes it. */
function shownPath(): string {
  return location.pathname.replace(/\/+$/, "") || "/";
}

/** The query of `search` with changes made; "" or undefined takes a parameter away. */
export function changed(search: string, changes: Changes): string {
  const parameters = new URLSearchParams(search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined || value === "") parameters.delete(name);
    else parameters.set(name, value);
  }
  const text = parameters.toString();
  return text === "" ? "" : `?${text}`;
}

export interface Search {
  get: (name: string) => string | undefined;
  /** Changes parameters of the address as it is by now, unless that is another page's; "replace" leaves no entry in the history, as for a slider. */
  set: (changes: Changes, how?: "push" | "replace") => void;
  /** The address with changes made, for a link. */
  link: (changes: Changes) => string;
}

export function useSearch(): Search {
  const { url, path, route } = useLocation();
  const at = url.indexOf("?");
  const search = at < 0 ? "" : url.slice(at);
  const parameters = new URLSearchParams(search);
  return {
    get: (name) => parameters.get(name) ?? undefined,
    set: (changes, how = "push") => {
      if (shownPath() !== path) return; // whoever asked has left since
      route(path + changed(location.search, changes), how === "replace");
    },
    link: (changes) => path + changed(search, changes),
  };
}
