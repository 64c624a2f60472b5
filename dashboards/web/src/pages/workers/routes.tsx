// The pages of this area.
import { lazy } from "preact-iso";
import type { PageRoute } from "../../routes";

// The form is not below /workers, where every name is a script's.
export const routes: PageRoute[] = [
  { path: "/:account/workers", component: lazy(() => import("./list")) },
  { path: "/:account/new-script", component: lazy(() => import("./new")) },
  { path: "/:account/workers/:script", component: lazy(() => import("./overview")) },
  { path: "/:account/workers/:script/deployments", component: lazy(() => import("./deployments")) },
];
