import { expect, test, vi } from "vitest";

const replaceState = vi.fn();
vi.stubGlobal("location", { pathname: "/login", search: "?next=%2Fsystem", hash: "#code=ABC" });
vi.stubGlobal("history", { state: null, replaceState });
const { codeOf, destination, takenCode } = await import("./link");

test("the code leaves the address when the page is loaded, and is there once", () => {
  expect(replaceState).toHaveBeenCalledExactlyOnceWith(null, "", "/login?next=%2Fsystem");
  location.hash = "";
  expect(takenCode()).toBe("ABC");
  expect(takenCode()).toBeUndefined();
});

test("a code that comes later is taken, too", () => {
  location.hash = "#code=DEF";
  expect(takenCode()).toBe("DEF");
});

test("other fragments hold no code", () => {
  expect(codeOf("")).toBeUndefined();
  expect(codeOf("#main")).toBeUndefined();
  expect(codeOf("#code=A&x=1")).toBe("A");
});

test("only pages of this server come after signing in", () => {
  const f = (next: string | undefined, want: string): void => expect(destination(next, "https://tidegate.example.com"), next).toBe(want);
  f(undefined, "/");
  f("/system", "/system");
  f("/0123/workers?last=900", "/0123/workers?last=900");
  f("//evil.example/", "/");
  f("/\\evil.example/", "/");
  f("/.//evil.example", "/");
  f("https://evil.example/", "/");
  f("javascript:alert(1)", "/");
  f("/login?next=%2F", "/");
  f("/login/", "/");
  f("http://[", "/");
});
