import { expect, test, vi } from "vitest";
import { areasOf, may, session, type Session } from "./session";

const [one, other] = ["1".repeat(32), "2".repeat(32)];
const signedIn = (has: Partial<Session>): void => {
  session.value = { operator: false, accounts: [], expires_on: "", ...has };
};

test("a token may do what the server would let it do", () => {
  const f = (has: string[], asked: string[], want: boolean) => {
    vi.stubGlobal("location", { pathname: "/system" });
    signedIn({ accounts: [{ id: one, name: "", scopes: has }] });
    expect(may(...asked), `${has.join()} for ${asked.join()}`).toBe(want);
  };
  f(["admin"], ["logs:edit"], true);
  f(["logs:read"], ["logs:read"], true);
  f(["logs:edit"], ["logs:read"], true);
  f(["logs:read"], ["logs:edit"], false);
  f(["logs:edit"], ["scripts:read"], false);
  f(["policy:edit"], ["scripts:read", "policy:edit"], true);
  f([], ["scripts:read"], false);
});

test("what may be done depends on the account that is looked at", () => {
  const f = (pathname: string, asked: string, want: boolean) => {
    vi.stubGlobal("location", { pathname });
    expect(may(asked), `${asked} at ${pathname}`).toBe(want);
  };
  signedIn({ accounts: [{ id: one, name: "", scopes: ["admin"] }, { id: other, name: "", scopes: ["logs:read"] }] });
  f(`/${one}/workers`, "scripts:edit", true);
  f(`/${other}/workers`, "scripts:edit", false);
  f(`/${other}`, "logs:read", true);
  f(`/${"3".repeat(32)}`, "logs:read", false);
  signedIn({ operator: true });
  f(`/${other}`, "scripts:edit", true);
});

test("who may do one thing finds its page, and nothing that would be refused", () => {
  const f = (scopes: string[], ...want: string[]) => {
    signedIn({ accounts: [{ id: one, name: "", scopes }] });
    expect(areasOf(one).map(([href]) => href), scopes.join()).toEqual(want.map((page) => `/${one}/${page}`));
  };
  f(["scripts:read"], "workers", "rollback", "calls");
  f(["policy:edit"], "rollback");
  f(["logs:edit"], "logpush");
  f(["admin"], "workers", "rollback", "calls", "logpush", "tokens", "audit");
  f([]);
});
