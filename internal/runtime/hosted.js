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
const states = new WeakMap(); // of instances of user's classes

// hosted returns a class that is Class, but for the router's control, whose requests
// carry the secret.
export function hosted(Class, secret) {
  const Hosted = class extends Class {
    constructor(ctx, env) {
      const id = ctx.id.toString();
      if (moving.get(id) > Date.now()) return movingObject(ctx, secret);
      tellName(ctx, names.get(id));
      super(ctx, env);
      states.set(this, { ctx, handlers: 0 });
    }

    fetch(request, ...rest) {
      if (isControl(request, secret)) return control(states.get(this), request);
      if (typeof super.fetch !== "function") throw new TypeError("Handler does not export a fetch() function.");
      return super.fetch(request, ...rest);
    }
  };
  for (const handler of ["alarm", "webSocketMessage", "webSocketClose", "webSocketError"]) {
    if (typeof Class.prototype[handler] === "function") Hosted.prototype[handler] = counted(Class.prototype[handler]);
  }
  Object.defineProperty(Hosted, "name", { value: Class.name });
  return Hosted;
}

// The proxy told the name before its first call; the runtime gives an id without one.
function tellName(ctx, name) {
  if (name === undefined) return;
  const { id } = ctx;
  Object.defineProperty(id, "name", { value: name, enumerable: true });
  Object.defineProperty(ctx, "id", { value: id, enumerable: true });
}

// counted is a handler that the runtime calls by itself, past the proxies.
function counted(handler) {
  return async function (...args) {
    const state = states.get(this);
    state.handlers++;
    try {
      return await handler.apply(this, args);
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
