import { expect, test } from "vitest";
import { buildFilter, countOperators, describeFilter, emptyGroup, keyOf, parseFilter, type FilterKey, type Group, type Node } from "./filter";

const keys: FilterKey[] = [
  { key: "Outcome", type: "string", operators: ["eq", "in"], description: "" },
  { key: "WallTimeMs", type: "int", operators: ["eq", "in"], description: "" },
  { key: "Event.Request.Headers.<name>", type: "string", operators: ["eq"], description: "" },
  { key: "Event.Response.Status", type: "int", operators: ["geq"], description: "" },
];

const is = (key: string, operator: string, value: string): Node => ({ kind: "comparison", key, operator, value });
const group = (join: "and" | "or", ...children: Node[]): Group => ({ kind: "group", join, children });

test("a tree and its JSON are the same", () => {
  const f = (tree: Group, text: string) => {
    expect(buildFilter(tree, keys)).toBe(text);
    expect(parseFilter(text)).toEqual(tree);
  };
  f(emptyGroup(), "");
  f(group("and", is("Outcome", "eq", "ok")), `{"where":{"key":"Outcome","operator":"eq","value":"ok"}}`);
  f(group("or", is("Outcome", "!in", "ok\ncanceled"), is("WallTimeMs", "in", "1\n2")),
    `{"where":{"or":[{"key":"Outcome","operator":"!in","value":["ok","canceled"]},{"key":"WallTimeMs","operator":"in","value":[1,2]}]}}`);
  f(group("and", is("Outcome", "eq", `a"b\\c\nd`), group("or", is("WallTimeMs", "gt", "-5"), group("and", is("Event.Response.Status", "geq", "500"), is("X", "eq", "7")))),
    `{"where":{"and":[{"key":"Outcome","operator":"eq","value":"a\\"b\\\\c\\nd"},{"or":[{"key":"WallTimeMs","operator":"gt","value":-5},{"and":[{"key":"Event.Response.Status","operator":"geq","value":500},{"key":"X","operator":"eq","value":"7"}]}]}]}}`);
});

test("text that is no whole number stays text, for the API to explain", () => {
  for (const value of ["9007199254740993", "1e3", "many", "", "1.5"]) {
    expect(buildFilter(group("and", is("WallTimeMs", "eq", value)), keys)).toBe(`{"where":{"key":"WallTimeMs","operator":"eq","value":${JSON.stringify(value)}}}`);
  }
});

test("random trees come back as they were", () => {
  let seed = 1;
  const random = (n: number): number => (seed = (seed * 48271) % 2147483647) % n;
  const tree = (depth: number): Node => {
    if (depth === 0 || random(3) === 0) return random(2) === 0 ? is("WallTimeMs", "eq", String(random(99))) : is("Outcome", "in", `a${random(9)}\nb "${random(9)}"`);
    return group(random(2) === 0 ? "and" : "or", ...Array.from({ length: 2 + random(3) }, () => tree(depth - 1)));
  };
  const trees = Array.from({ length: 100 }, () => group("or", tree(3), tree(2)));
  expect(trees.map((root) => parseFilter(buildFilter(root, keys)))).toEqual(trees);
});

test("what no tree can hold is refused with a sentence", () => {
  const f = (text: string, want: RegExp) => expect(() => parseFilter(text), text).toThrow(want);
  f("{", /not JSON/);
  f("[]", /where/);
  f(`{"where":{"and":{}}}`, /list/);
  f(`{"where":{"key":"a","operator":"eq"}}`, /key, operator and value/);
  f(`{"where":{"key":"a","operator":"eq","value":true}}`, /true/);
  f(`{"where":{"key":"a","operator":"in","value":["b\\nc"]}}`, /line breaks/);
  f(`{"where":{"and":[],"or":[]}}`, /"or"/);
  f(`{"where":{"key":"a","operator":"eq","value":"b","not":1}}`, /"not"/);
});

test("operators are counted as the API counts them", () => {
  expect(countOperators(emptyGroup())).toBe(0);
  expect(countOperators(group("and", is("a", "eq", "b")))).toBe(1);
  expect(countOperators(group("and", is("a", "eq", "b"), group("or", is("a", "eq", "b"), is("a", "eq", "b"))))).toBe(5);
});

test("a key with names of one's own has a type", () => {
  expect(keyOf(keys, "Event.Request.Headers.accept")?.type).toBe("string");
  expect(keyOf(keys, "Event.Request.Headers.")).toBeUndefined();
  expect(keyOf(keys, "Outcomes")).toBeUndefined();
});

test("a filter in words", () => {
  expect(describeFilter(group("and", is("Outcome", "!in", "ok\ncanceled"), group("or", is("WallTimeMs", "gt", "5"), is("Outcome", "eq", "x")))))
    .toBe("Outcome is none of ok, canceled and (WallTimeMs is more than 5 or Outcome is x)");
});
