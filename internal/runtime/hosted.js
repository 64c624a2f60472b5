// Runs beside the user's modules and makes classes into ones of Durable Objects that
// the router can move to another version's process.
const CONTROL = "Tidegate-Object-Control";
const RESET = "Durable Object reset because its code was updated."; // as Cloudflare's say it
const NAMES_MAX = 100_000;

// As they are before the user's modules run, which must not learn the secret.
const { apply } = Reflect;
const getHeader = Headers.prototype.get;
const getHeaders = Object.getOwnPropertyDescriptor(Request.prototype, "headers")?.get;

function isControl(request, secret) {
  const headers = getHeaders ? apply(getHeaders, request, []) : request.headers;
  return apply(getHeader, headers, [CONTROL]) === secret;
}

const names = new Map(); // by object id: what ctx.id.name is
const moving = new Map(); // until when objects are opened without the user's code, by object id
const MOVING_MS = 30_000; // longer than the router takes, should it not say that it is over

// What the runtime calls by itself, past the proxies.
const handlers = new Set(["alarm", "webSocketMessage", "webSocketClose", "webSocketError"]);

// hosted returns a class whose instances are Class's, but for the router's control,
// whose requests carry the secret. What of them the user's code sees is its own: the
// runtime alone gets them by a proxy.
export function hosted(Class, secret) {
  const Hosted = class extends Class {
    constructor(ctx, env) {
      const id = ctx.id.toString();
      if (moving.get(id) > Date.now()) return movingObject(ctx, secret);
      tellName(ctx, names.get(id));
      const object = new Class(ctx, env);
      const state = { ctx, handlers: 0 };
      return new Proxy(object, {
        get(target, name) {
          if (name === "fetch") return fetcher(target, state, secret);
          const value = Reflect.get(target, name, target);
          if (typeof value !== "function" || name === "constructor") return value;
          return handlers.has(name) ? counted(target, state, value) : value.bind(target);
        },
      });
    }
  };
  Object.defineProperty(Hosted, "name", { value: Class.name });
  return Hosted;
}

function fetcher(object, state, secret) {
  return (request, ...rest) => {
    if (isControl(request, secret)) return control(state, request);
    if (typeof object.fetch !== "function") throw new Error("Handler does not export a fetch() function.");
    return object.fetch(request, ...rest);
  };
}

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
      return await handler.apply(object, args);
    } finally {
      state.handlers--;
    }
  };
}

// movingObject stands for an object that was not in memory when it was to move. Who
// calls it as if it were the object ends it: the next call finds out what is the case.
function movingObject(ctx, secret) {
  const state = { ctx, handlers: 0, empty: true };
  const end = () => {
    ctx.abort(new Error(RESET));
    throw new Error(RESET);
  };
  const own = {
    fetch: (request) => (isControl(request, secret) ? control(state, request) : end()),
    alarm() {
      throw new Error(RESET); // so that it is tried again, by the version that has it then
    },
  };
  const get = (target, name) => (typeof name !== "string" || absent.has(name) || Reflect.has(target, name) ? Reflect.get(target, name) : end);
  return new Proxy(own, { get });
}

// What the runtime looks for on an instance, and nobody can call.
const absent = new Set(["connect", "self", "webSocketMessage", "webSocketClose", "webSocketError"]);

async function control(state, request) {
  const { storage } = state.ctx;
  const { alarm, force } = await request.json();
  const { pathname } = new URL(request.url);
  if ((pathname === "/reset" || pathname === "/leave") && !moving.has(state.ctx.id.toString())) {
    return new Response("it stays by now", { status: 409 });
  }
  switch (pathname) {
    case "/stay":
      if (!state.empty) return new Response();
      break;
    case "/alarm": {
      const own = await storage.getAlarm();
      if (own !== null && own !== alarm) break; // it was set since, and is scheduled
      // First none, on disk: to set the time that is there already schedules nothing.
      await storage.deleteAlarm();
      await storage.sync();
      await storage.setAlarm(alarm);
      break;
    }
    case "/leave":
      await storage.deleteAlarm();
  }
  await storage.sync();
  if (pathname === "/reset" && state.handlers > 0 && !force) return Response.json({ handlers: state.handlers });
  state.ctx.abort(new Error(RESET));
}

// notes is what is told before an object starts: its name, and whether it is moving.
export const notes = {
  async fetch(request) {
    const [id, name] = await request.json();
    switch (new URL(request.url).pathname) {
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
