import { expect, test } from "vitest";
import { may, session } from "./session";

test("a token may do what the server would let it do", () => {
  const f = (has: string[], asked: string[], want: boolean) => {
    session.value = { token: { id: "", name: "", scopes: has, operator: false }, accounts: [], expires_on: "" };
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
