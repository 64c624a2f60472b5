// Who leaves unsaved work by a link, or closes the tab, is asked first. No page can stop
// other ways out, as back in the history: what must survive those needs a draft.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { Confirm } from "./basics";

/** The link inside this site that a click would follow to another page; undefined for any other click. */
function wayOut(event: MouseEvent): string | undefined {
  if (event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return undefined;
  const link = event.composedPath().find((e): e is HTMLAnchorElement => e instanceof HTMLAnchorElement && e.href !== "");
  if (!link || link.origin !== location.origin || (link.target !== "" && link.target !== "_self") || link.hasAttribute("download")) return undefined;
  if (link.getAttribute("href")!.startsWith("#")) return undefined;
  return link.pathname + link.search;
}

interface Props {
  unsaved: boolean;
  /** The page has the work whatever its parameters are: links to itself lose nothing. */
  anyParameters?: boolean;
  /** What becomes of the work. */
  children: ComponentChildren;
}

export function LeaveGuard(props: Props) {
  const { route } = useLocation();
  const [to, setTo] = useState<string>();
  const leaving = useRef(false);
  useEffect(() => {
    if (!props.unsaved) return;
    const unload = (event: BeforeUnloadEvent): void => event.preventDefault();
    const click = (event: MouseEvent): void => {
      const way = leaving.current ? undefined : wayOut(event);
      if (way === undefined || (props.anyParameters && way.split("?")[0] === location.pathname)) return;
      event.preventDefault();
      event.stopPropagation();
      setTo(way);
    };
    addEventListener("beforeunload", unload);
    document.addEventListener("click", click, true); // before the router, which listens at the window
    return () => {
      removeEventListener("beforeunload", unload);
      document.removeEventListener("click", click, true);
    };
  }, [props.unsaved, props.anyParameters]);
  if (to === undefined) return null;
  return (
    <Confirm title="Leave without saving?" action="Leave" onClose={() => setTo(undefined)} onConfirm={() => { leaving.current = true; route(to); }}>
      <p>{props.children}</p>
    </Confirm>
  );
}
