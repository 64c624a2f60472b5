import { expect, test } from "vitest";
import { originProblem, scriptNameProblem } from "./names";

test("names of scripts are labels of host names", () => {
  for (const good of ["shop", "a", "my_shop-2", "0day", "_", "x".repeat(63)]) expect(scriptNameProblem(good), good).toBeUndefined();
  const f = (name: string, says: string) => expect(scriptNameProblem(name), name).toContain(says);
  f("", "needs a name");
  f("x".repeat(64), "64 characters");
  f("Shop", "lower-case");
  f("-shop", "dash");
  f("shop-", "dash");
  f("my shop", "may have");
  f("shöp", "may have");
  f("a.b", "may have");
});

test("an origin is an absolute URL that keeps no secret", () => {
  for (const good of ["http://10.0.0.5:9000", "https://shop.example.com/base", "h2c://[::1]:50051", "HTTP://localhost"]) expect(originProblem(good), good).toBeUndefined();
  const f = (url: string, says: string) => expect(originProblem(url), url).toContain(says);
  f("", "Name the server");
  f("10.0.0.5:9000", "must begin with");
  f("ftp://shop", "must begin with");
  f("http://", "not a URL");
  f("http://shop:99999", "not a URL");
  f("http://me:secret@shop", "password");
  f("http://shop/?a=1", "no query");
  f("http://shop/#top", "no query");
  f(`http://shop/${"x".repeat(2048)}`, "2048");
});
