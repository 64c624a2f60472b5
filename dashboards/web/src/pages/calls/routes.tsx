// The pages of this area.
import { lazy } from "preact-iso";
import type { PageRoute } from "../../routes";

export const routes: PageRoute[] = [
  { path: "/:account/calls", component: lazy(() => import("./accountpage")) },
  { path: "/:account/workers/:script/calls", component: lazy(() => import("./scriptpage")) },
];
