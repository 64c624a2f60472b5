import { expect, test, vi } from "vitest";

const replaceState = vi.fn();
vi.stubGlobal("location", { pathname: "/login", search: "?code=ABC&state=DEF&iss=x", hash: "" });
vi.stubGlobal("history", { state: null, replaceState });
const { homecomingOf, takenHomecoming } = await import("./homecoming");

test("what the provider has sent leaves the address when the page is loaded, and is there once", () => {
  expect(replaceState).toHaveBeenCalledExactlyOnceWith(null, "", "/login");
  expect(takenHomecoming()).toEqual({ oidc: { code: "ABC", state: "DEF" } });
  expect(takenHomecoming()).toBeUndefined();
});

test("a refusal is told in the protocol's words alone", () => {
  expect(homecomingOf("?error=access_denied&state=DEF")).toEqual({ refused: "access denied" });
  expect(homecomingOf("?error=Call%20this%20number&error_description=evil&state=DEF")).toEqual({ refused: "it does not say why" });
});

test("other addresses have nothing", () => {
  expect(homecomingOf("")).toBeUndefined();
  expect(homecomingOf("?next=%2Fsystem")).toBeUndefined();
  expect(homecomingOf("?code=ABC")).toBeUndefined();
  expect(homecomingOf("?state=DEF")).toBeUndefined();
});
