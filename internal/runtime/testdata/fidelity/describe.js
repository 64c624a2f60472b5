// described makes JSON of any value, so that two of them differ where a user could see it.
export function described(value, seen = new Map()) {
  switch (typeof value) {
    case "undefined": return "<undefined>";
    case "bigint": return `<bigint ${value}>`;
    case "symbol": return `<${String(value)}>`;
    case "number": return Number.isFinite(value) && !Object.is(value, -0) ? value : `<number ${Object.is(value, -0) ? "-0" : value}>`;
    case "function": return { function: value.name, tag: tagOf(value), length: value.length };
    case "string": return value.replace(/reference = \w+/, "reference = ...");
    case "boolean": return value;
  }
  if (value === null) return null;
  if (seen.has(value)) return `<same as ${seen.get(value)}>`;
  seen.set(value, seen.size);
  const nested = (v) => described(v, seen);
  if (Array.isArray(value)) return value.map(nested);
  const tag = tagOf(value);
  if (value instanceof Error) {
    const own = Object.fromEntries(Object.getOwnPropertyNames(value).filter((n) => !unstable.has(n)).sort().map((n) => [n, nested(value[n])]));
    return { error: value.name, message: nested(value.message), constructor: value.constructor.name, own };
  }
  if (value instanceof Date) return `<date ${value.getTime()}>`;
  if (value instanceof RegExp) return `<${value}>`;
  if (value instanceof Map) return { map: [...value].map(nested) };
  if (value instanceof Set) return { set: [...value].map(nested) };
  if (value instanceof ArrayBuffer) return { buffer: [...new Uint8Array(value)] };
  if (ArrayBuffer.isView(value)) return { [tag]: value instanceof DataView ? value.byteLength : [...value].map(nested) };
  if (tag === "[object Object]" && [Object.prototype, null].includes(Object.getPrototypeOf(value))) {
    return Object.fromEntries(Object.keys(value).filter((n) => n !== "durableObjectId").map((n) => [n, nested(value[n])]));
  }
  return { tag, class: Object.getPrototypeOf(value)?.constructor?.name, keys: Object.keys(value) };
}

function tagOf(value) {
  try { return Object.prototype.toString.call(value); } catch (e) { return "no tag: " + e.message; }
}

// What of an error has probes of its own.
const unstable = new Set(["stack", "message", "durableObjectId"]);

// The frames of a stack that are in no module of the user's. Which of the user's are
// there depends on where the runtime makes the error.
export function framesOf(e) {
  return e.stack.split("\n").filter((line) => /^ +at /.test(line) && !/[( ](index|describe|objects|serve|storage|probe-\w+)\.js:/.test(line) && !/^ +at async Promise.all/.test(line));
}

export async function thrown(f) {
  try { await f(); } catch (e) { return e; }
}

// ended is what became of a call whose object was reset. Members that only tell of that
// are left to a probe of their own.
export async function ended(f) {
  try { return described(await f()); } catch (e) { return { name: e.name, message: e.message }; }
}

export async function attempt(f) {
  try { return described(await f()); } catch (e) { return { threw: described(e) }; }
}
