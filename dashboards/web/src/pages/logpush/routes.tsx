// The pages of this area.
import { lazy } from "preact-iso";
import type { PageRoute } from "../../routes";

// "new" stands before any id: the first route that fits is taken.
export const routes: PageRoute[] = [
  { path: "/:account/logpush", component: lazy(() => import("./list")) },
  { path: "/:account/logpush/new", component: lazy(() => import("./new")) },
  { path: "/:account/logpush/:id", component: lazy(() => import("./job")) },
  { path: "/:account/logpush/:id/edit", component: lazy(() => import("./edit")) },
  { path: "/:account/logpush/:id/dead-letters", component: lazy(() => import("./letters")) },
  { path: "/:account/logpush/:id/replays", component: lazy(() => import("./replays")) },
];
