// The classes of Durable Objects whose behaviour is compared.
import { DurableObject, RpcTarget, env as globalEnv } from "cloudflare:workers";
import { described } from "./describe.js";

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export class Sub extends RpcTarget {
  #n;
  constructor(n) { super(); this.#n = n; }
  value() { return this.#n; }
  next() { return new Sub(this.#n + 1); }
  get prop() { return "prop " + this.#n; }
  fail() { throw new RangeError("sub"); }
}

class Base extends DurableObject {
  static kind = "static of Base";
  inherited() { return "inherited by " + this.constructor.name; }
  overridden() { return "base"; }
}

export class Obj extends Base {
  field = "an own field";
  #private = "private";
  started = 0;

  constructor(ctx, env) {
    super(ctx, env);
    this.ctx.blockConcurrencyWhile(async () => {
      await sleep(1);
      this.started++;
    });
  }

  // Methods.
  sync(...args) { return args; }
  async async(x) { await sleep(1); return x; }
  echo(x) { return x; }
  kinds(x) { return described(x); }
  nothing() {}
  overridden() { return "derived of " + super.overridden(); }
  get getter() { return "got " + this.#private; }
  get asyncGetter() { return Promise.resolve("later"); }
  get throwing() { throw new SyntaxError("from a getter"); }
  get nested() { return { deep: { er: () => "nested method" } }; }
  get named() { return { name: "its name", length: 5, deeper: { name: "deep", then: 1 } }; }
  _underscore() { return "underscore"; }
  "with-dash"() { return "dash"; }
  [Symbol.iterator]() { return [].values(); }
  isFunction = () => "an own function";

  whoami() {
    const { id } = this.ctx;
    return {
      id: described(id), text: id.toString(), name: id.name, keys: Object.keys(id), json: JSON.stringify(id),
      own: Object.getOwnPropertyNames(id), descriptor: described(Object.getOwnPropertyDescriptor(id, "name")),
      idDescriptor: described(Object.getOwnPropertyDescriptor(this.ctx, "id")), same: this.ctx.id === this.ctx.id,
      ctx: Object.prototype.toString.call(this.ctx), ctxOwn: Object.getOwnPropertyNames(this.ctx),
    };
  }

  idIs(text) { return [this.env.OBJ.idFromString(text).equals(this.ctx.id), this.ctx.id.equals(this.env.OBJ.idFromString(text))]; }
  myStub() { return this.env.OBJ.get(this.ctx.id).id.toString() === this.ctx.id.toString(); }
  callMyself() { return this.env.OBJ.get(this.ctx.id).echo("through my own stub"); }

  classes() {
    const prototypes = [];
    for (let p = Object.getPrototypeOf(this); p && p !== Object.prototype; p = Object.getPrototypeOf(p)) prototypes.push(p.constructor.name);
    return {
      name: this.constructor.name, same: this.constructor === Obj, prototypes, kind: this.constructor.kind,
      instance: this instanceof Obj, base: this instanceof DurableObject, target: this instanceof RpcTarget,
      newTarget: Obj.length, own: Object.getOwnPropertyNames(this), methods: Object.getOwnPropertyNames(Object.getPrototypeOf(this)),
      handlers: ["alarm", "webSocketMessage", "fetch"].map((n) => [n in this, Object.hasOwn(Obj.prototype, n)]), text: String(this),
      json: JSON.stringify(this).length > 0, started: this.started,
    };
  }

  envs() {
    return { keys: Object.keys(this.env).sort(), global: Object.keys(globalEnv).sort(), same: this.env === globalEnv, text: this.env.TEXT, obj: described(this.env.OBJ) };
  }

  exports() {
    const { exports } = this.ctx;
    return { there: typeof exports, keys: exports ? Object.keys(exports).sort() : null, entry: described(exports?.Entry), props: described(this.ctx.props) };
  }

  async throughExports(name) { return this.ctx.exports.Obj.getByName(name).echo("through ctx.exports"); }

  // Names of handlers and the like.
  queue(x) { return "queue " + x; }
  test(x) { return "test " + x; }
  tail(x) { return "tail " + x; }
  scheduled(x) { return "scheduled " + x; }
  connect(x) { return "connect " + x; }
  email(x) { return "email " + x; }
  trace(x) { return "trace " + x; }
  dup(x) { return "dup " + x; }
  id(x) { return "id " + x; }
  name(x) { return "name " + x; }
  self(x) { return "self " + x; }
  toJSON(x) { return "toJSON " + x; }
  toString(x) { return "toString " + x; }
  valueOf(x) { return "valueOf " + x; }
  hasOwnProperty(x) { return "hasOwnProperty " + x; }
  handlers(x) { return "handlers " + x; }
  ctxOf(x) { return "ctxOf " + x; }

  // Values that are more than data.
  async callBack(f, ...args) { return ["answered", await f(...args)]; }
  async callBackTwice(f) { const kept = f.dup(); const first = await f(1); const second = await kept(2); kept[Symbol.dispose](); return [first, second]; }
  async callObject(o) { return [await o.a(1), await o.b.c(2), await o.d]; }
  keep(f) { this.kept?.[Symbol.dispose]?.(); this.kept = f.dup(); return "kept"; }
  async callKept(x) { return this.kept(x); }
  target(n) { return new Sub(n); }
  targetWithData(n) { return { sub: new Sub(n), n, f: (x) => x + n }; }
  fn() { return (x, y) => x * y; }
  classFn() { return Sub; }
  stubOf(name) { return this.env.OBJ.getByName(name); }
  async callStub(stub, x) { return [described(stub), await stub.echo(x)]; }
  async fetchStub(stub) { return (await stub.fetch("http://x/hello")).text(); }
  async readAll(stream) { return new Response(stream).text(); }
  async readBytes(stream) { let n = 0; for await (const chunk of stream) n += chunk.byteLength; return n; }
  stream(text) { return new Response(text).body; }
  byteStream(n) {
    return new ReadableStream({ type: "bytes", pull(c) { c.enqueue(new Uint8Array(Math.min(n, 65536)).fill(7)); if ((n -= 65536) <= 0) c.close(); } });
  }
  failingStream() { let n = 0; return new ReadableStream({ type: "bytes", pull(c) { if (n++ > 1) c.error(new TypeError("stream broke")); else c.enqueue(new Uint8Array(3)); } }); }
  valueStream() { return new ReadableStream({ start(c) { c.enqueue({ a: 1 }); c.enqueue("b"); c.close(); } }); }
  async writeTo(stream, text) { const w = stream.getWriter(); await w.write(new TextEncoder().encode(text)); await w.close(); return "written"; }
  sink() {
    const { readable, writable } = new IdentityTransformStream();
    this.sunk = new Response(readable).text();
    return writable;
  }
  async whatSank() { return this.sunk; }
  async takeRequest(request) { return [described(request), request.method, request.url, [...request.headers], await request.text()]; }
  giveRequest() { return new Request("http://given/x", { method: "POST", body: "given", headers: { a: "b" } }); }
  async takeResponse(response) { return [described(response), response.status, [...response.headers], await response.text()]; }
  giveResponse() { return new Response("given", { status: 201, statusText: "Made", headers: [["set-cookie", "a=1"], ["set-cookie", "b=2"]] }); }
  headers() { return new Headers({ a: "b" }); }
  cyclic() { const o = { a: 1 }; o.self = o; return [o, o]; }
  unserializable() { return { f: new WeakMap() }; }
  symbol() { return Symbol("x"); }
  klass() { return new (class Foo { x = 1; })(); }
  namespace() { return this.env.OBJ; }
  ownId() { return this.ctx.id; }
  big(n) { return "x".repeat(n); }

  // Errors.
  fail(kind) {
    switch (kind) {
      case "plain": throw new Error("plain");
      case "type": throw new TypeError("typed");
      case "custom": throw new (class MyError extends Error { constructor() { super("mine"); this.name = "MyError"; this.code = 42; this.detail = { deep: [1] }; } })();
      case "cause": throw new Error("outer", { cause: new RangeError("inner") });
      case "aggregate": throw new AggregateError([new Error("one"), new TypeError("two")], "many");
      case "dom": throw new DOMException("domain", "AbortError");
      case "string": throw "just a string";
      case "object": throw { code: 7, message: "an object" };
      case "null": throw null;
      case "undefined": throw undefined;
      case "props": throw Object.assign(new Error("props"), { retryable: true, overloaded: true, remote: false, own: "x" });
    }
  }
  async failLater(kind) { await sleep(1); this.fail(kind); }
  async failAfterWait() { this.ctx.waitUntil(Promise.reject(new Error("in the background"))); return "answered"; }
  rejectStack() { return new Error("for its stack").stack; }
  giveError() { return Object.assign(new TypeError("a value"), { code: 1 }); }

  // State and life.
  count() { return (this.n = (this.n ?? 0) + 1); }
  async increment(times) {
    for (let i = 0; i < times; i++) {
      const n = (await this.ctx.storage.get("n")) ?? 0;
      await this.ctx.storage.put("n", n + 1);
    }
    return this.ctx.storage.get("n");
  }
  async incrementSlowly() { const n = this.slow ?? 0; await sleep(1); this.slow = n + 1; return this.slow; }
  stored() { return this.ctx.storage.get("n"); }
  abort(message) { this.ctx.storage.put("before", message); this.ctx.abort(message && new Error(message)); }
  async abortAfterSync(message) { this.ctx.storage.put("synced", message); await this.ctx.storage.sync(); this.ctx.abort(message); }
  keptAfterAbort() { return [this.n, this.ctx.storage.kv?.get("synced"), this.started]; }
  async load(key) { return this.ctx.storage.get(key); }
  async store(key, value) { await this.ctx.storage.put(key, value); return "put"; }
  async blockAndThrow() { await this.ctx.blockConcurrencyWhile(async () => { await sleep(1); throw new Error("blocked"); }); }
  async block() { return this.ctx.blockConcurrencyWhile(async () => { await sleep(1); return "was blocked"; }); }
  async background() {
    this.ctx.waitUntil(sleep(5).then(() => this.ctx.storage.put("background", "done")));
    return "went on";
  }

  // Alarms.
  async setAlarm(in_, plan) {
    await this.ctx.storage.put("plan", plan ?? "once");
    await this.ctx.storage.put("rang", []);
    await this.ctx.storage.setAlarm(Date.now() + in_);
    return typeof (await this.ctx.storage.getAlarm());
  }
  async alarm(info) {
    const storage = this.ctx.storage;
    const rang = (await storage.get("rang")) ?? [];
    rang.push({ retryCount: info?.retryCount, isRetry: info?.isRetry, info: described(info), during: await storage.getAlarm(), self: this.constructor.name });
    await storage.put("rang", rang);
    const plan = await storage.get("plan");
    if (plan === "throw" && rang.length < 2) { await storage.sync(); throw new Error("alarm " + rang.length); }
    if (plan === "again" && rang.length < 3) await storage.setAlarm(Date.now());
    if (plan === "stub" && this.started === 1) await this.env.OBJ.getByName(this.ctx.id.name + " helper").store("by", "alarm");
  }
  async rang(least) {
    for (let i = 0; i < 800; i++) {
      const rang = (await this.ctx.storage.get("rang")) ?? [];
      if (rang.length >= least && (await this.ctx.storage.getAlarm()) === null) return rang;
      await sleep(25);
    }
    return "never";
  }
  async alarms() {
    const s = this.ctx.storage;
    const out = [await s.getAlarm()];
    const at = Date.now() + 3_600_000;
    await s.setAlarm(at); out.push((await s.getAlarm()) === at);
    await s.setAlarm(new Date(at + 1)); out.push((await s.getAlarm()) === at + 1);
    await s.deleteAlarm(); out.push(await s.getAlarm());
    await s.setAlarm(at); await s.deleteAll(); out.push(typeof (await s.getAlarm()));
    await s.deleteAlarm();
    for (const bad of [-1, NaN, "x", undefined]) try { out.push(typeof (await s.setAlarm(bad))); } catch (e) { out.push(described(e)); }
    await s.deleteAlarm();
    return out;
  }

  async storageOf(which) { return (await import("./storage.js")).storage[which](this.ctx); }

  async fetch(request) { return (await import("./serve.js")).serve(this, request); }

  // WebSockets.
  async webSocketMessage(ws, message) {
    if (message === "close me") return ws.close(4001, "as you wish");
    if (message === "throw") throw new Error("in webSocketMessage");
    if (message === "tags") return ws.send(JSON.stringify([this.ctx.getTags(ws), this.ctx.getWebSockets().length, this.ctx.getWebSockets("b").length]));
    if (message === "attach") { ws.serializeAttachment({ n: new Date(5), m: [1] }); return ws.send(JSON.stringify(ws.deserializeAttachment())); }
    if (message === "auto") return ws.send(JSON.stringify([this.ctx.getWebSocketAutoResponse()?.request, typeof this.ctx.getWebSocketAutoResponseTimestamp(ws)]));
    if (message === "all") for (const other of this.ctx.getWebSockets()) other.send("to all");
    else ws.send(typeof message === "string" ? "echo " + message : message);
  }
  async webSocketClose(ws, code, reason, wasClean) {
    await this.ctx.storage.put("closed", [code, reason, wasClean, ws.readyState]);
    if (ws.readyState === 2) ws.close(code === 1005 ? 1000 : code, "bye " + reason);
  }
  async webSocketError(ws, e) { await this.ctx.storage.put("error", described(e)); }
  async closed() { for (let i = 0; i < 1000; i++) { const c = await this.ctx.storage.get("closed"); if (c) return c; await sleep(10); } return "never"; }
}

// As they were written before there was a class to extend.
export class Old {
  constructor(state, env) {
    this.state = state;
    this.env = env;
    this.started = state.blockConcurrencyWhile(() => state.storage.get("x"));
  }
  method() { return "not reachable"; }
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/which") return Response.json([this.constructor.name, this.state.id.name, Object.keys(this), typeof this.state.storage.sql, typeof this.method, Old.prototype.constructor === this.constructor]);
    if (pathname === "/sql") try { return Response.json(this.state.storage.sql.exec("SELECT 1").toArray()); } catch (e) { return Response.json(described(e)); }
    if (pathname === "/storage") return Response.json(described(await (await import("./storage.js")).storage.async(this.state)));
    if (pathname === "/alarm") { await this.state.storage.setAlarm(Date.now() + 5); return new Response("set"); }
    if (pathname === "/rang") { for (let i = 0; i < 1000 && !this.rang; i++) await sleep(10); return Response.json(this.rang ?? "never"); }
    if (pathname === "/throw") throw new TypeError("old and broken");
    return new Response("old " + pathname);
  }
  alarm(info) { this.rang = [typeof info, info?.retryCount]; }
}

export class NoFetch extends DurableObject {
  hello() { return "hello"; }
}

export class Fails extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    if (!ctx.id.name?.endsWith("fine")) throw new RangeError("the constructor failed");
  }
  hello() { return "hello"; }
  fetch() { return new Response("hello"); }
}

export class Returns extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    return new Proxy(this, { get: (target, name) => (name === "magic" ? () => "by a proxy" : Reflect.get(target, name)) });
  }
  plain() { return "plain"; }
  fetch() { return new Response("through a proxy"); }
}
