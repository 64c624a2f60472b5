// The pages of this area.
import { lazy } from "preact-iso";
import type { PageRoute } from "../../routes";

export const routes: PageRoute[] = [
  { path: "/:account/workers/:script/versions", component: lazy(() => import("./versions")) },
  { path: "/:account/workers/:script/versions/:id", component: lazy(() => import("./version")) },
  { path: "/:account/workers/:script/diff", component: lazy(() => import("./diff")) },
  { path: "/:account/workers/:script/edit", component: lazy(() => import("./edit")) },
];
