// The pages of this area.
import { lazy } from "preact-iso";
import type { PageRoute } from "../../routes";

export const routes: PageRoute[] = [
  { path: "/:account/workers/:script/compare", component: lazy(() => import("./page")) },
  { path: "/:account/workers/:script/live", component: lazy(() => import("./live")) },
];
