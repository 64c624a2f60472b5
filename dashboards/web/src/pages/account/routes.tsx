// The pages of this area: who is signed in, accounts and tokens.
import { lazy } from "preact-iso";
import type { PageRoute } from "../../routes";
import "./link"; // takes the code of a link out of the address before anything is drawn
import "./homecoming"; // and what an identity provider has sent

export const routes: PageRoute[] = [
  { path: "/login", component: lazy(() => import("./login")), open: true },
  { path: "/accounts", component: lazy(() => import("./accounts")) },
  { path: "/:account/tokens", component: lazy(() => import("./tokens")) },
];
