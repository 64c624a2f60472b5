// The pages of this area.
import { lazy } from "preact-iso";
import type { PageRoute } from "../../routes";

export const routes: PageRoute[] = [
  { path: "/:account/audit", component: lazy(() => import("./audit")) },
  { path: "/system", component: lazy(() => import("./system")) },
];
