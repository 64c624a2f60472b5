// All pages by address. An area lists its own in pages/<area>/routes.tsx, and loads them
// when they are first visited.
import type { ComponentType } from "preact";
import { routes as account } from "./pages/account/routes";
import { routes as calls } from "./pages/calls/routes";
import { routes as code } from "./pages/code/routes";
import { routes as compare } from "./pages/compare/routes";
import { routes as logpush } from "./pages/logpush/routes";
import { routes as rollback } from "./pages/rollback/routes";
import { routes as system } from "./pages/system/routes";
import { routes as workers } from "./pages/workers/routes";

export interface PageRoute {
  /** In the notation of preact-iso: `/:account/workers/:script`. */
  path: string;
  /** `lazy(() => import("./page"))`; it reads its parameters with useRoute(). */
  component: ComponentType;
  /** Needs nobody signed in. */
  open?: boolean;
}

export const routes: PageRoute[] = [...account, ...workers, ...code, ...compare, ...rollback, ...calls, ...logpush, ...system];
