// Who leaves unsaved work is asked first. The draft is there in either case, so that
// ways out that no page can stop, as back in the history, lose nothing.
import { useEffect, useRef, useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { Confirm } from "../../ui/basics";

/** The link inside this site that a click would follow to another page; undefined for any other click. */
function wayOut(event: MouseEvent): string | undefined {
  if (event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return undefined;
  const link = event.composedPath().find((e): e is HTMLAnchorElement => e instanceof HTMLAnchorElement && e.href !== "");
  if (!link || link.origin !== location.origin || (link.target !== "" && link.target !== "_self") || link.hasAttribute("download")) return undefined;
  if (link.getAttribute("href")!.startsWith("#")) return undefined;
  return link.pathname + link.search;
}

export function LeaveGuard(props: { unsaved: boolean; kept: boolean }) {
  const { route } = useLocation();
  const [to, setTo] = useState<string>();
  const leaving = useRef(false);
  useEffect(() => {
    if (!props.unsaved) return;
    const unload = (event: BeforeUnloadEvent): void => event.preventDefault();
    const click = (event: MouseEvent): void => {
      const way = leaving.current ? undefined : wayOut(event);
      if (way === undefined) return;
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
  }, [props.unsaved]);
  if (to === undefined) return null;
  return (
    <Confirm title="Leave without saving?" action="Leave" onClose={() => setTo(undefined)} onConfirm={() => { leaving.current = true; route(to); }}>
      <p>Your changes are in no version yet. {props.kept ? "This browser tab keeps them as a draft, and offers it when you edit this version again." : "They are too large to be kept as a draft, and would be lost."}</p>
    </Confirm>
  );
}
