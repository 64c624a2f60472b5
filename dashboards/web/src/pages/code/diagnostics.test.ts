import { expect, test } from "vitest";
import { ApiError } from "../../api/client";
import { diagnosticsOf, parseDiagnostic, rangeOf } from "./diagnostics";

// The messages are workerd's, word for word.
const sources = [
  { name: "src/index.js", text: 'import "./lib.js";\nimport { a } from "./no.js";\nexport default {}' },
  { name: "src/my file.js", text: "\n\n  undefinedFn();" },
  { name: "a:1.js", text: "" },
];

test("places of thrown errors count columns from 1, of unreadable code from 0", () => {
  const f = (message: string, text: string, ...places: [module: string, line: number, column: number][]) =>
    expect(parseDiagnostic(message, sources)).toEqual({ message: text, places: places.map(([module, line, column]) => ({ module, line, column })) });
  f("Uncaught SyntaxError: Unexpected end of input\n  at src/index.js:1:16", "Uncaught SyntaxError: Unexpected end of input", ["src/index.js", 1, 16]);
  f("Uncaught SyntaxError: Unexpected token '}'\n  at src/index.js:4", "Uncaught SyntaxError: Unexpected token '}'", ["src/index.js", 4, 0]);
  f("Uncaught SyntaxError: Expected property name or '}' in JSON at position 1 (line 1 column 2)\n  at src/index.js:1:6",
    "Uncaught SyntaxError: Expected property name or '}' in JSON at position 1 (line 1 column 2)", ["src/index.js", 1, 5]);
  f("Uncaught ReferenceError: undefinedFn is not defined\n  at src/my file.js:3:3\n  at src/index.js:1:1", "Uncaught ReferenceError: undefinedFn is not defined",
    ["src/my file.js", 3, 2], ["src/index.js", 1, 0]);
  f("Uncaught Error: x\n  at a:1.js:2:7 in f", "Uncaught Error: x", ["a:1.js", 2, 6]);
});

test("what a script says itself is no place, unless it is one of its modules", () => {
  expect(parseDiagnostic("Uncaught TypeError: boom\nsecond line\n  at fake.js:1:1\n  at src/index.js:2:9 in f", sources)).toEqual({
    message: "Uncaught TypeError: boom\nsecond line\n  at fake.js:1:1", places: [{ module: "src/index.js", line: 2, column: 8 }],
  });
  expect(parseDiagnostic("Uncaught Error: text", sources)).toEqual({ message: "Uncaught Error: text", places: [] });
});

test("a module that is missing is shown where it is imported", () => {
  expect(parseDiagnostic('Uncaught Error: No such module "src/no.js".\n  imported from "src/index.js"', sources)).toEqual({
    message: 'Uncaught Error: No such module "src/no.js".', places: [{ module: "src/index.js", line: 2, column: 18 }],
  });
  expect(parseDiagnostic('Uncaught Error: No such module "elsewhere".\n  imported from "src/index.js"', sources).places).toEqual([]);
});

test("only a refused script has diagnostics", () => {
  const error = (code: number) => new ApiError(400, [{ code, message: "Uncaught Error: x\n  at src/index.js:1:7" }], undefined);
  expect(diagnosticsOf(error(10021), sources)).toHaveLength(1);
  expect(diagnosticsOf(error(10007), sources)).toEqual([]);
  expect(diagnosticsOf(new Error("x"), sources)).toEqual([]);
});

test("a range is the word at its place, inside the text whatever the place", () => {
  const text = "const a = 1;\nconst größe = 2;\n";
  const f = (line: number, column: number, want: string) => {
    const { from, to } = rangeOf({ module: "m", line, column }, text);
    expect(text.slice(from, to)).toBe(want);
  };
  f(1, 0, "const");
  f(2, 6, "größe");
  f(1, 10, "1");
  f(1, 12, ";");
  f(1, 99, ";");
  f(3, 0, "");
  f(99, 0, "");
});
