// Runs beside the user's modules and makes classes into ones of Durable Objects that
// the router can move to another version's process.
const CONTROL = "Tidegate-Object-Control"; // a secret, an order, and what that needs, with spaces between
const OWN = "tidegate:"; // before the names of what we add to env and to the exports
const RESET = "Durable Object reset because its code was updated."; // as Cloudflare's say it
const NAMES_MAX = 100_000;

// As they are before the user's modules run, which must not learn the secret.
const { Proxy, Error } = globalThis;
const { apply, get: getMember } = Reflect;
const { bind } = Function.prototype;
const getHeader = Headers.prototype.get;
const getHeaders = Object.getOwnPropertyDescriptor(Request.prototype, "headers")?.get;
const { split } = String.prototype;

// orderIn returns what the router orders, [secret, order, ...]; undefined for a request
// of the user's.
function orderIn(request, secret) {
  const headers = getHeaders ? apply(getHeaders, request, []) : request.headers;
  const value = apply(getHeader, headers, [CONTROL]);
  if (value === null) return undefined;
  const order = apply(split, value, [" "]);
  return order[0] === secret ? order : undefined;
}

const names = new Map(); // by object id: what ctx.id.name is
const moving = new Map(); // until when objects are opened without the user's code, by object id
const MOVING_MS = 30_000; // longer than the router takes, should it not say that it is over
const isMoving = (id) => moving.get(id) > Date.now();

// What the runtime calls by itself, past the proxies.
const handlers = new Set(["alarm", "webSocketMessage", "webSocketClose", "webSocketError"]);

// hosted returns a class whose instances are Class's, but for the router's control,
// whose requests carry the secret. What of them the user's code sees is its own: the
// runtime alone gets them by a proxy.
export function hosted(Class, secret, movingAlarm) {
  const Hosted = class extends Class {
    constructor(ctx, env) {
      const id = ctx.id.toString();
      if (isMoving(id)) return movingObject(ctx, secret, movingAlarm);
      begin(env, ctx.exports ?? {}); // alarms may come before the router says so
      tellName(ctx, names.get(id));
      Object.defineProperty(ctx, "facets", { value: noFacets, enumerable: true });
      const object = new Class(ctx, env);
      const state = { ctx, handlers: 0 };
      return new Proxy(object, {
        get(target, name) {
          if (name === "fetch") return fetcher(target, state, secret);
          const value = getMember(target, name, target);
          if (typeof value !== "function" || name === "constructor") return value;
          return handlers.has(name) ? counted(target, state, value) : apply(bind, value, [target]);
        },
      });
    }
  };
  Object.defineProperty(Hosted, "name", { value: Class.name });
  return Hosted;
}

function fetcher(object, state, secret) {
  return (request, ...rest) => {
    const order = orderIn(request, secret);
    if (order) return control(state, order);
    if (typeof object.fetch !== "function") throw new Error("Handler does not export a fetch() function.");
    return object.fetch(request, ...rest);
  };
}

// What an object keeps in facets is in files of their own, which would not move with it.
function refuseFacets() {
  throw new Error("ctx.facets is not supported by Tidegate: keep the data in ctx.storage, or in objects of their own.");
}
const noFacets = { get: refuseFacets, abort: refuseFacets, delete: refuseFacets, clone: refuseFacets };

// The proxy told the name before its first call; the runtime gives an id without one.
function tellName(ctx, name) {
  if (name === undefined) return;
  const { id } = ctx;
  Object.defineProperty(id, "name", { value: name, enumerable: true });
  Object.defineProperty(ctx, "id", { value: id, enumerable: true });
}

function counted(object, state, handler) {
  return async (...args) => {
    state.handlers++;
    try {
      return await apply(handler, object, args);
    } finally {
      state.handlers--;
    }
  };
}

// movingObject stands for an object that was not in memory when it was to move. Who
// calls it as if it were the object ends it: the next call finds out what is the case.
function movingObject(ctx, secret, movingAlarm) {
  const state = { ctx, handlers: 0, empty: true };
  const end = () => {
    ctx.abort(new Error(RESET));
    throw new Error(RESET);
  };
  const own = {
    fetch(request) {
      const order = orderIn(request, secret);
      return order ? control(state, order) : end();
    },
    alarm() {
      throw new Error(movingAlarm); // it is tried again, by the version that has it then; router.js tells nobody
    },
  };
  const get = (target, name) => (typeof name !== "string" || absent.has(name) || Reflect.has(target, name) ? Reflect.get(target, name) : end);
  return new Proxy(own, { get });
}

// What the runtime looks for on an instance, and nobody can call.
const absent = new Set(["connect", "self", "webSocketMessage", "webSocketClose", "webSocketError"]);

// control does as the router says. But for a reset that has to wait, and answers with
// how many handlers are running, the object ends itself and so cannot answer.
async function control({ ctx, handlers, empty }, order) {
  const { storage } = ctx;
  const stays = !isMoving(ctx.id.toString());
  switch (order[1]) {
    case "reset": // and "force" if it is not to wait
      if (stays) return new Response("it stays by now", { status: 409 });
      if (handlers > 0 && order[2] !== "force") return new Response(handlers);
      break;
    case "leave":
      if (stays) return new Response("it stays by now", { status: 409 });
      await storage.deleteAlarm();
      break;
    case "alarm": // and the time
      await giveAlarm(storage, Number(order[2]));
      break;
    case "stay":
      if (!empty) return new Response();
  }
  await storage.sync();
  ctx.abort(new Error(RESET));
}

// giveAlarm has the alarm of an object that has moved scheduled here.
async function giveAlarm(storage, alarm) {
  const own = await storage.getAlarm();
  if (own !== null && own !== alarm) return; // it was set since, and is scheduled
  // First none, on disk: to set the time that is there already schedules nothing.
  await storage.deleteAlarm();
  await storage.sync();
  await storage.setAlarm(alarm);
}

// notes is what is told before an object starts: its name, and whether it is moving;
// and, before the first request to the Worker, that the process begins.
export const notes = {
  async fetch(request, env, ctx) {
    const [id, name] = await request.json();
    switch (new URL(request.url).pathname) {
      case "/begin":
        begin(env, ctx.exports ?? {});
        break;
      case "/moving":
        moving.set(id, Date.now() + MOVING_MS);
        break;
      case "/moved":
        moving.delete(id);
        break;
      case "/name":
        if (names.size >= NAMES_MAX) names.delete(names.keys().next().value);
        names.set(id, name);
    }
    return new Response(null, { status: 204 });
  },
};

// begin gives the user's Worker the exports that it would have without us: its classes
// of Durable Objects are the namespaces that bindings have, and nothing of ours is there.
function begin(env, exports) {
  for (const name of Object.keys(exports)) {
    if (name.startsWith(OWN)) delete exports[name];
  }
  for (const name of Object.keys(env)) {
    if (!name.startsWith(OWN)) continue;
    exports[name.slice(OWN.length)] = env[name];
    delete env[name];
  }
}
