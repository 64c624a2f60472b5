// The pages of this area.
import { lazy } from "preact-iso";
import type { PageRoute } from "../../routes";

export const routes: PageRoute[] = [
  { path: "/:account/rollback", component: lazy(() => import("./accountpage")) },
  { path: "/:account/workers/:script/rollback", component: lazy(() => import("./scriptpage")) },
];
