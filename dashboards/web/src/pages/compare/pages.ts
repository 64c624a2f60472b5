// Pages of stored events, the newest first.
import type { Schemas } from "../../api/client";

type Events = Schemas["Events"];

/** The newest page, and those that were asked for behind it. */
export interface Loaded {
  pages: Events[];
}

/**
 * The pages to show. Those that were loaded behind another newest page, as before it was read again, are
 * none of it: events that came in between would be missing.
 */
export function pagesOf(newest: Events, loaded: Loaded | undefined): Events[] {
  return loaded?.pages[0] === newest ? loaded.pages : [newest];
}
