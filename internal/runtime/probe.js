// Runs as the main module of a check, below an import of the user's main module as
// "user", and answers with what that exports.
import * as cf from "cloudflare:workers";

// What a plain object inherits is nobody's handler.
function methods(value) {
  const names = new Set();
  for (let o = value; o && o !== Object.prototype && o !== Function.prototype && !bases.has(o); o = Object.getPrototypeOf(o)) {
    for (const name of Object.getOwnPropertyNames(o)) {
      if (name === "constructor") continue;
      const property = Object.getOwnPropertyDescriptor(o, name);
      if (typeof property.value === "function") names.add(name);
    }
  }
  return [...names];
}

const bases = new Set([cf.WorkerEntrypoint.prototype, cf.DurableObject.prototype, cf.WorkflowEntrypoint?.prototype]);

function kind(value) {
  const prototype = value.prototype;
  if (prototype instanceof cf.WorkerEntrypoint) return "entrypoint";
  if (prototype instanceof cf.DurableObject) return "durable_object";
  if (cf.WorkflowEntrypoint && prototype instanceof cf.WorkflowEntrypoint) return "workflow";
  return "other";
}

// Handlers are a class's methods or, of an object, its own and inherited functions.
function handlers(value) {
  if (typeof value === "function") return value.prototype ? methods(value.prototype) : [];
  return value && typeof value === "object" ? methods(value) : [];
}

export default {
  fetch() {
    const named = [];
    for (const [name, value] of Object.entries(user)) {
      if (name === "default" || value === null) continue;
      if (typeof value !== "function" && typeof value !== "object") continue;
      named.push({ name, kind: typeof value === "function" ? kind(value) : "other", handlers: handlers(value) });
    }
    return Response.json({ handlers: handlers(user.default), named });
  },
};
