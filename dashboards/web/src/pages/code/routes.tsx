// The pages of this area.
import type { PageRoute } from "../../routes";

export const routes: PageRoute[] = [];
