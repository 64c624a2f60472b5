import { expect, test } from "vitest";
import { languageOf, lineEnd, moduleTypes, nameProblem, textOf, typeOfName } from "./modules";

test("a module is highlighted by the end of its name, else by its type", () => {
  const f = (name: string, type: string, want: string) => expect(languageOf(name, type)).toBe(want);
  f("index.js", moduleTypes.esm, "javascript");
  f("src/Index.MJS", moduleTypes.esm, "javascript");
  f("worker", moduleTypes.esm, "javascript");
  f("v1.2/worker", moduleTypes.commonJS, "javascript");
  f("types.d.ts", moduleTypes.text, "typescript");
  f("page.tsx", moduleTypes.esm, "tsx");
  f("data.json", moduleTypes.text, "json");
  f("main.py", moduleTypes.text, "python");
  f("constructor", moduleTypes.text, "text");
  f("a.constructor", moduleTypes.text, "text");
  f("README", moduleTypes.text, "text");
});

test("a new module has the type that its name says", () => {
  const f = (name: string, want: string) => expect(typeOfName(name)).toBe(want);
  f("lib/a.js", moduleTypes.esm);
  f("a.mts", moduleTypes.esm);
  f("old.cjs", moduleTypes.commonJS);
  f("data.json", moduleTypes.text);
  f("page.html", moduleTypes.text);
});

test("bytes are no text to edit, whatever their type says", () => {
  const f = (contentType: string, bytes: number[], want: string | undefined) => expect(textOf({ name: "m", contentType, bytes: Uint8Array.from(bytes) })).toBe(want);
  f(moduleTypes.text, [0x61, 0x0a, 0xc3, 0xa4], "a\nä");
  f(moduleTypes.esm, [0x61, 0x0d, 0x0a, 0x62], "a\r\nb");
  f(moduleTypes.text, [0xef, 0xbb, 0xbf, 0x61], "\ufeffa");
  f(moduleTypes.text, [0xff], undefined);
  f(moduleTypes.wasm, [0x61], undefined);
  f(moduleTypes.data, [0x61], undefined);
});

test("a text keeps the ends of its lines", () => {
  const f = (text: string, want: string) => expect(lineEnd(text)).toBe(want);
  f("a\r\nb\r\n", "\r\n");
  f("\r\n", "\r\n");
  f("a\r\nb\n", "\n");
  f("\na\r\n", "\n");
  f("a\rb", "\n");
  f("", "\n");
});

test("names that the server would refuse or that would not arrive are refused", () => {
  expect(nameProblem("lib/ä b.js", ["index.js"])).toBeUndefined();
  for (const name of ["", "index.js", "metadata", "/a.js", "a/../b.js", "a\\b", 'a"b', "a\nb", "ä".repeat(513)]) {
    expect(nameProblem(name, ["index.js"]), name).toBeTypeOf("string");
  }
});
