// A filter is a tree of comparisons in groups. Here it becomes JSON as the API has it,
// and a tree again.
import type { Schemas } from "../../api/client";

export type FilterKey = Schemas["FilterKey"];

export interface Comparison {
  kind: "comparison";
  key: string;
  operator: string;
  /** As typed: of `in` and `!in` one a line. */
  value: string;
}

export interface Group {
  kind: "group";
  join: "and" | "or";
  children: Node[];
}

export type Node = Comparison | Group;

/** The API's limits. */
export const filterBytesMax = 1000;
export const filterOperatorsMax = 30;

export const emptyGroup = (): Group => ({ kind: "group", join: "and", children: [] });

export const isList = (operator: string): boolean => operator === "in" || operator === "!in";

/** The type of what a key names: <name> and <path> stand for any names. */
export function keyOf(keys: FilterKey[], name: string): FilterKey | undefined {
  return keys.find((k) => {
    const open = /<(name|path)>$/.exec(k.key);
    return k.key === name || (open !== null && name.length > open.index && name.startsWith(k.key.slice(0, open.index)));
  });
}

/** The JSON text of a filter; "" where the root group is empty, which is no filter. */
export function buildFilter(root: Group, keys: FilterKey[]): string {
  if (root.children.length === 0) return "";
  const [only] = root.children;
  return JSON.stringify({ where: toJSON(root.children.length === 1 && only ? only : root, keys) });
}

function toJSON(node: Node, keys: FilterKey[]): unknown {
  if (node.kind === "group") return { [node.join]: node.children.map((c) => toJSON(c, keys)) };
  const one = (text: string): string | number => {
    const n = Number(text);
    // Other numbers than these go as text, which the API takes too, or explains.
    return keyOf(keys, node.key)?.type === "int" && Number.isSafeInteger(n) && String(n) === text.trim() ? n : text;
  };
  const value = isList(node.operator) ? node.value.split("\n").filter((line) => line !== "").map(one) : one(node.value);
  return { key: node.key, operator: node.operator, value };
}

/** Reads a filter's JSON, "" among them. Throws Error with a sentence for what no tree can hold. */
export function parseFilter(text: string): Group {
  if (text.trim() === "") return emptyGroup();
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new Error(`The filter is not JSON: ${(error as Error).message}`);
  }
  if (!isObject(json) || !("where" in json)) throw new Error(`A filter is {"where": …}.`);
  refuseOthers(json, ["where"]);
  const node = fromJSON(json["where"]);
  return node.kind === "group" ? node : { kind: "group", join: "and", children: [node] };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function refuseOthers(json: Record<string, unknown>, known: string[]): void {
  const other = Object.keys(json).find((name) => !known.includes(name));
  if (other !== undefined) throw new Error(`A part of the filter has the member ${JSON.stringify(other)}, which does not belong there.`);
}

function fromJSON(json: unknown): Node {
  if (!isObject(json)) throw new Error("Each part of a filter is an object.");
  for (const join of ["and", "or"] as const) {
    if (!(join in json)) continue;
    refuseOthers(json, [join]);
    const list = json[join];
    if (!Array.isArray(list)) throw new Error(`"${join}" must be a list.`);
    return { kind: "group", join, children: list.map(fromJSON) };
  }
  refuseOthers(json, ["key", "operator", "value"]);
  const { key, operator, value } = json;
  if (typeof key !== "string" || typeof operator !== "string" || value === undefined) throw new Error("A comparison has key, operator and value.");
  return { kind: "comparison", key, operator, value: isList(operator) ? lines(value) : scalar(value) };
}

function lines(value: unknown): string {
  if (!Array.isArray(value)) throw new Error(`The value of "in" must be a list.`);
  const texts = value.map(scalar);
  if (texts.some((t) => t === "" || t.includes("\n"))) throw new Error("A list has a value that is empty or has line breaks: edit it as JSON.");
  return texts.join("\n");
}

function scalar(value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value === "number") return String(value);
  throw new Error(`The value ${JSON.stringify(value)} is neither text nor a number.`);
}

/** How many comparisons, ands and ors a filter has, as the API counts them. */
export function countOperators(root: Group): number {
  const count = (node: Node): number => (node.kind === "group" ? 1 + node.children.reduce((n, c) => n + count(c), 0) : 1);
  return root.children.length === 1 ? count(root.children[0]!) : root.children.length === 0 ? 0 : count(root);
}

export const byteLength = (text: string): number => new TextEncoder().encode(text).length;

const words: Record<string, string> = {
  eq: "is", "!eq": "is not", lt: "is less than", leq: "is at most", gt: "is more than", geq: "is at least", in: "is one of", "!in": "is none of",
  contains: "contains", "!contains": "does not contain", startsWith: "starts with", "!startsWith": "does not start with", endsWith: "ends with", "!endsWith": "does not end with",
};

export const operatorText = (operator: string): string => words[operator] ?? operator;

/** A filter in words, for those who did not write it. */
export function describeFilter(root: Group): string {
  const say = (node: Node, outer: boolean): string => {
    if (node.kind === "comparison") return `${node.key} ${operatorText(node.operator)} ${isList(node.operator) ? node.value.split("\n").join(", ") : node.value}`;
    const text = node.children.map((c) => say(c, false)).join(` ${node.join} `);
    return outer || node.children.length < 2 ? text : `(${text})`;
  };
  return say(root, true);
}
