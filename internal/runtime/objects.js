// How Workers reach Durable Objects, whichever process runs them. A stub leads to a
// proxy in the caller's own process, of a class of this module. It asks the router
// once which process has the object, may call it there until the router revokes that,
// and passes calls on. The router moves an object when no process has a call to it in
// hand, or when they have taken too long.
import { DurableObject } from "cloudflare:workers";

const CONTROL = "Tidegate-Object-Control"; // a header with this process's secret
const RESET = "Durable Object reset because its code was updated."; // hosted.js ends objects so
const ID_CHARS = 64;
const ASKS_MAX = 64; // at once of a namespace: each takes a connection of the router's
const RELEASES_MAX = 1000; // told at once
const SLOTS_MAX = 4096; // before unused ones are looked for
const UNUSED_MS = 60_000;

// By namespace and object: the place where the object may be called, or null, and
// the calls in hand. Permits up to the serial "voided" are void, also one that is
// still on its way.
const slots = new Map();
let sweepAt = SLOTS_MAX;
const asks = new Map(); // under way, by namespace
const released = []; // permits that were given up, until the router was told

function slotOf(key) {
  let slot = slots.get(key);
  if (!slot) {
    slot = { place: null, asking: 0, calls: 0, voided: 0, used: 0 };
    slots.set(key, slot);
  }
  return slot;
}

function sweep() {
  if (slots.size < sweepAt) return;
  const before = Date.now() - UNUSED_MS;
  for (const [key, slot] of slots) {
    if (slot.asking > 0 || slot.calls > 0 || slot.used > before) continue;
    slots.delete(key);
    if (slot.place) released.push({ object: key, serial: slot.place.serial });
  }
  sweepAt = Math.max(SLOTS_MAX, 2 * slots.size);
}

// What the runtime looks for on an instance, and a stub cannot call.
const absent = new Set(["alarm", "connect", "webSocketClose", "webSocketError", "webSocketMessage"]);

// proxyOf returns the class whose instances stand for the objects of a namespace. They
// are named by an object's id and, if it is known, a colon and its name.
export function proxyOf(namespace) {
  return class extends DurableObject {
    constructor(ctx, env) {
      super(ctx, env);
      const remote = new Remote(ctx, env, namespace);
      return new Proxy(this, {
        get(target, name) {
          if (name === "fetch") return (request) => remote.fetch(request);
          if (typeof name !== "string" || Reflect.has(target, name)) return Reflect.get(target, name);
          return absent.has(name) ? undefined : remote.member([name]);
        },
      });
    }
  };
}

class Remote {
  #ctx;
  #env;
  #id;
  #name;
  #key;
  #asking = null;
  #address; // of #process
  #process = null;

  constructor(ctx, env, namespace) {
    this.#ctx = ctx;
    this.#env = env;
    this.#id = ctx.id.name.slice(0, ID_CHARS);
    if (ctx.id.name.length > ID_CHARS) this.#name = ctx.id.name.slice(ID_CHARS + 1);
    this.#key = namespace + this.#id;
  }

  async fetch(request) {
    const slot = await this.#enter();
    const { place } = slot;
    let response;
    try {
      response = await this.#object(place).fetch(request);
    } catch (e) {
      slot.calls--;
      doubt(this.#key, slot, place, e);
      throw e;
    }
    const { body, headers } = response;
    // A socket is no call. An encoded body could not be passed on as it is once it was
    // touched, so its end is not seen.
    if (!body || response.webSocket || headers.has("content-encoding")) {
      slot.calls--;
      return response;
    }
    const length = headers.get("content-length");
    const { readable, writable } = length === null ? new IdentityTransformStream() : new FixedLengthStream(BigInt(length));
    const passed = body.pipeTo(writable).catch(() => {}); // both ends see the error
    this.#ctx.waitUntil(passed.then(() => slot.calls--));
    return new Response(readable, response);
  }

  // member is what a stub's property is: a method, or with "await" a value, or what has
  // properties itself. Whether there is one the object knows.
  member(path) {
    const last = path.at(-1);
    const owner = (object) => path.slice(0, -1).reduce((of, name) => of[name], object);
    const method = (...args) => this.#call((object) => owner(object)[last](...args));
    const then = (resolve, reject) => this.#call((object) => owner(object)[last]).then(resolve, reject);
    return new Proxy(method, {
      get: (target, name) => (name === "then" ? then : typeof name === "string" ? this.member([...path, name]) : Reflect.get(target, name)),
      // The runtime takes only own properties of a function.
      getOwnPropertyDescriptor: (target, name) =>
        Reflect.getOwnPropertyDescriptor(target, name) ?? { value: undefined, writable: true, enumerable: false, configurable: true },
    });
  }

  async #call(use) {
    const slot = await this.#enter();
    const { place } = slot;
    try {
      return await use(this.#object(place));
    } catch (e) {
      doubt(this.#key, slot, place, e);
      throw e;
    } finally {
      slot.calls--;
    }
  }

  // enter counts a call in, once the object may be called.
  async #enter() {
    const slot = slotOf(this.#key);
    while (!slot.place) {
      slot.asking++;
      try {
        await (this.#asking ??= this.#ask(slot).finally(() => (this.#asking = null)));
      } finally {
        slot.asking--;
      }
    }
    slot.calls++;
    slot.used = Date.now();
    return slot;
  }

  async #ask(slot) {
    slot.used = Date.now();
    sweep();
    const place = await askRouter(this.#env, this.#key);
    try {
      if (this.#name !== undefined) await note(this.#at(place.address), "/name", [this.#id, this.#name]);
    } catch (e) {
      released.push({ object: this.#key, serial: place.serial });
      throw e;
    }
    if (place.serial > slot.voided) slot.place = place;
  }

  #at(address) {
    if (!this.#process || this.#address !== address) {
      this.#process = address ? this.#env.DEBUG.connect(address) : this.#env.DEBUG.current();
      this.#address = address;
    }
    return this.#process;
  }

  // object is asked for anew by each call: the way to one that was reset stays broken.
  #object({ address, entrypoint }) {
    return this.#at(address).getActor("user", entrypoint, this.#id);
  }
}

// A call that did not get there may have had a place that is gone.
function doubt(key, slot, place, e) {
  if (e.remote || slot.place !== place) return;
  slot.place = null;
  released.push({ object: key, serial: place.serial });
}

async function askRouter(env, object) {
  const namespace = object.slice(0, -ID_CHARS);
  const under = () => asks.get(namespace) ?? 0;
  while (under() >= ASKS_MAX) await scheduler.wait(5);
  asks.set(namespace, under() + 1);
  const gone = released.splice(0, RELEASES_MAX);
  try {
    const response = await env.ROUTER.fetch("http://router/objects/permit", {
      method: "POST",
      body: JSON.stringify({ object, released: gone }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(text);
    return JSON.parse(text);
  } catch (e) {
    released.push(...gone);
    throw e;
  } finally {
    asks.set(namespace, under() - 1);
  }
}

async function note(process, path, body) {
  await process.getEntrypoint("user", "tidegate:notes").fetch("http://notes" + path, { method: "POST", body: JSON.stringify(body) });
}

// The router's control of this process.
export const control = {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    const body = await request.json();
    if (pathname === "/objects/revoke") {
      return Response.json({ calls: body.objects.reduce((calls, key) => calls + revoke(key, body.serial), 0) });
    }
    try {
      return Response.json(await order(env, pathname.slice("/objects/".length), body));
    } catch (e) {
      return new Response(String(e.message), { status: 500 });
    }
  },
};

function revoke(key, serial) {
  const slot = slots.get(key);
  if (!slot) return 0;
  slot.voided = Math.max(slot.voided, serial);
  if (slot.place && slot.place.serial <= serial) slot.place = null;
  return slot.calls;
}

// order has an object of this process prepare for its move, or for its start here. It is
// opened without the user's code from a reset until it has moved or stays.
async function order(env, what, { entrypoint, id, alarm, force }) {
  const process = env.DEBUG.current();
  switch (what) {
    case "begin":
      await note(process, "/begin", []);
      return {};
    case "moved":
      await note(process, "/moved", [id]);
      return {};
  }
  await note(process, what === "stay" ? "/moved" : "/moving", [id]);
  try {
    const rest = alarm ?? (force ? "force" : "");
    const response = await process.getActor("user", entrypoint, id).fetch("http://object/", { headers: { [CONTROL]: `${env.SECRET} ${what} ${rest}` } });
    const text = await response.text();
    if (!response.ok) throw new Error(`the object answered ${response.status}: ${text}`);
    return { handlers: Number(text) };
  } catch (e) {
    if (String(e.message).includes(RESET)) return {}; // it has, and so could not answer
    throw e;
  } finally {
    if (what === "alarm") await note(process, "/moved", [id]);
  }
}
