// Runs beside the user's modules and makes classes into ones of Durable Objects that
// the router can move to another version's process.
const CONTROL = "Tidegate-Object-Control";
const RESET = "Durable Object reset because its code was updated."; // as Cloudflare's say it
const NAMES_MAX = 100_000;

// As they are before the user's modules run, which must not learn the secret.
const { Proxy } = globalThis;
const { apply, get: getMember } = Reflect;
const { bind } = Function.prototype;
const getHeader = Headers.prototype.get;
const getHeaders = Object.getOwnPropertyDescriptor(Request.prototype, "headers")?.get;

function isControl(request, secret) {
  const headers = getHeaders ? apply(getHeaders, request, []) : request.headers;
  return apply(getHeader, headers, [CONTROL]) === secret;
}

const names = new Map(); // by object id: what ctx.id.name is
const moving = new Set(); // objects that are opened without the user's code

// What the runtime calls by itself, past the proxies.
const handlers = new Set(["alarm", "webSocketMessage", "webSocketClose", "webSocketError"]);

// hosted returns a class whose instances are Class's, but for the router's control,
// whose requests carry the secret. What of them the user's code sees is its own: the
// runtime alone gets them by a proxy.
export function hosted(Class, secret) {
  const Hosted = class extends Class {
    constructor(ctx, env) {
      const id = ctx.id.toString();
      if (moving.has(id)) return new Moving(ctx, secret);
      tellName(ctx, names.get(id));
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
      return await apply(handler, object, args);
    } finally {
      state.handlers--;
    }
  };
}

// Moving stands for an object that was not in memory when it was to move.
class Moving {
  #state;
  #secret;

  constructor(ctx, secret) {
    this.#state = { ctx, handlers: 0, empty: true };
    this.#secret = secret;
  }

  fetch(request) {
    if (isControl(request, this.#secret)) return control(this.#state, request);
    throw new Error(RESET);
  }

  alarm() {
    throw new Error(RESET); // so that it is tried again, by the version that has it then
  }
}

async function control(state, request) {
  const { storage } = state.ctx;
  switch (new URL(request.url).pathname) {
    case "/look":
      return Response.json({ alarm: await storage.getAlarm(), handlers: state.handlers });
    case "/stay":
      if (!state.empty) return new Response();
      break;
    case "/alarm":
      // First none: to set the time that its storage has already schedules nothing.
      await storage.deleteAlarm();
      await storage.setAlarm((await request.json()).alarm);
      break;
    case "/leave":
      await storage.deleteAlarm();
  }
  await storage.sync();
  state.ctx.abort(new Error(RESET));
}

// notes is what is told before an object starts: its name, and whether it is moving.
export const notes = {
  async fetch(request) {
    const [id, name] = await request.json();
    switch (new URL(request.url).pathname) {
      case "/moving":
        moving.add(id);
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
