// Calls, their arguments and results.
import { RpcTarget } from "cloudflare:workers";
import { attempt, described, framesOf, thrown } from "./describe.js";

class Local extends RpcTarget {
  constructor(log) { super(); this.log = log; }
  a(x) { this.log.push(x); return "a" + x; }
  get b() { return { c: (x) => "c" + x }; }
  get d() { return 4; }
}

const cyclic = { list: [] };
cyclic.list.push(cyclic);

const values = {
  undefined: undefined, null: null, true: true, number: 1.5, nan: NaN, zero: -0, infinity: -Infinity, bigint: 12345678901234567890n, string: "é€😀\0", lone: "\ud800",
  date: new Date(5), invalidDate: new Date(NaN), regexp: /a+/gi, map: new Map([["a", new Map([[1, 2]])]]), set: new Set([1, "2", { a: 1 }]), buffer: new Uint8Array([1, 2, 3]).buffer,
  u8: new Uint8Array([1, 2]), i16: new Int16Array([-1]), f64: new Float64Array([1.5, NaN]), u64: new BigUint64Array([5n]), view: new DataView(new ArrayBuffer(3)),
  sparse: [1, , 3], nested: { a: { b: [{}] } }, nullProto: Object.assign(Object.create(null), { a: 1 }), boxed: new Number(5), empty: {}, cyclic,
  error: new Error("an error"), typeError: new TypeError("t"), custom: Object.assign(new Error("c"), { name: "Custom", code: 5 }), cause: new Error("x", { cause: "y" }), dom: new DOMException("d", "AbortError"),
  headers: new Headers({ a: "b" }), url: new URL("http://x/"), symbol: Symbol("s"), weak: new WeakMap(), promise: Promise.resolve(5), instance: new (class Foo {})(), blob: new Blob(["x"]),
  functions: [1, () => 2], proxy: new Proxy({}, {}), getter: { get a() { return 1; } }, toJson: { toJSON: () => "no" }, big: "x".repeat(1 << 20).length,
};

const throwing = ["plain", "type", "custom", "cause", "aggregate", "dom", "string", "object", "null", "undefined", "props"];
const odd = ["queue", "test", "tail", "scheduled", "connect", "email", "trace", "dup", "id", "name", "self", "toJSON", "toString", "valueOf", "hasOwnProperty", "handlers", "then", "catch",
  "finally", "constructor", "alarm", "webSocketMessage", "webSocketClose", "webSocketError", "fetch", "ctx", "env", "field", "isFunction", "started", "_underscore", "with-dash", "#private", "__proto__",
  "prototype", "arguments", "length", "apply", "bind", "call", "0", "", "é", "kept", "isPrototypeOf", "toLocaleString", "propertyIsEnumerable", "__defineGetter__", "get", "put", "delete"];

export default {
  async arguments({ stub }) { return [await stub().sync(), await stub().sync(1, undefined, null, [2]), await stub().async("x"), await stub().nothing()]; },
  async values({ stub }) {
    const out = {};
    for (const [name, value] of Object.entries(values)) out[name] = [await attempt(() => stub().kinds(value)), await attempt(() => stub().echo(value))];
    return out;
  },
  async large({ stub }) { return [(await stub().big(4 << 20)).length, (await stub().echo("y".repeat(4 << 20))).length, await attempt(() => stub().big(40 << 20).then((s) => s.length))]; },
  async results({ stub }) {
    return [await attempt(() => stub().cyclic()), await attempt(() => stub().unserializable()), await attempt(() => stub().symbol()), await attempt(() => stub().klass()), await attempt(() => stub().namespace()), await attempt(() => stub().ownId()), await attempt(() => stub().headers()), await attempt(() => stub().giveError())];
  },
  async getters({ stub }) {
    const s = stub();
    return [await attempt(() => s.getter), await attempt(() => s.asyncGetter), await attempt(() => s.throwing), await attempt(() => s.getter()), await attempt(() => s.nested.deep.er()), await attempt(() => s.nested), await attempt(() => s.named.name), await attempt(() => s.named.length), await attempt(() => s.named.deeper.name), await attempt(() => s.named.deeper), await attempt(() => s.named.none), await attempt(() => s.missing), await attempt(() => s.missing.more), await attempt(() => s.missing.more())];
  },
  async methodAsValue({ stub }) {
    const s = stub();
    return [described(s.echo), described(s.missing), described(s.echo(1)), await attempt(async () => (await s.echo)(5)), await attempt(() => { const { echo } = s; return echo(6); }), await attempt(() => s.echo.call(null, 7)), await attempt(() => s.echo.apply(null, [7])), await attempt(() => s["echo"](8)), await attempt(() => new s.echo(1))];
  },
  async missing({ stub }) { return [await attempt(() => stub().missing()), await attempt(() => stub().missing), await attempt(() => stub().deep.missing()), await attempt(() => stub().echo.missing())]; },
  async odd({ stub }) {
    const out = Object.create(null); // so that "__proto__" is a name like others
    for (const name of odd) out[name] = [await attempt(() => stub()[name]("x")), await attempt(async () => described(await stub()[name]))];
    return out;
  },
  async symbols({ stub }) { return [await attempt(() => stub()[Symbol.iterator]), await attempt(() => [...stub()]), await attempt(() => stub()[Symbol("x")]), await attempt(() => stub()[Symbol.toPrimitive])]; },
  async classes({ stub }) { return [await stub().classes(), await stub().inherited(), await stub().overridden()]; },
  async errors({ stub }) {
    const out = {};
    for (const kind of throwing) out[kind] = [await attempt(() => stub().fail(kind)), await attempt(() => stub().failLater(kind))];
    return out;
  },
  async errorStacks({ stub }) { return [framesOf(await thrown(() => stub().fail("plain"))), framesOf(await thrown(() => stub().missing()))]; },
  async errorIds({ stub }) { return [(await thrown(() => stub().fail("plain"))).durableObjectId === stub().id.toString(), "durableObjectId" in (await thrown(() => stub().missing()))]; },
  errorInBackground: ({ stub }) => stub().failAfterWait(),
  async stack({ stub }) { return (await stub().rejectStack()).split("\n").map((l) => l.trim().replace(/:\d+:\d+/g, "")); },
  async stubAfterError({ stub }) { const s = stub(); return [await s.count(), await attempt(() => s.fail("plain")), await s.count()]; },
  async callbacks({ stub }) {
    const log = [];
    return [await stub().callBack((x, y) => x + y, 1, 2), await stub().callBackTwice((x) => x * 2), await attempt(() => stub().callBack(() => { throw new RangeError("in the callback"); })), await stub().callBack(async (s) => s.value(), await stub().target(3)), await stub().callObject(new Local(log)), await stub().callObject({ a: (x) => x, b: { c: (x) => x }, d: 1 }), log];
  },
  async keptCallbacks({ stub }) { return [await stub().keep((x) => "kept " + x), await stub().callKept(1), await stub().callKept(2)]; },
  async targets({ stub }) {
    using sub = await stub().target(1);
    const data = await stub().targetWithData(5);
    const f = await stub().fn();
    return [described(sub), await sub.value(), await sub.prop, await attempt(() => sub.fail()), await attempt(() => sub.missing()), await sub.next().next().value(), data.n, await data.sub.value(), await data.f(1), await f(6, 7), described(f), await attempt(() => stub().classFn())];
  },
  async pipelines({ stub }) {
    return [await stub().target(1).value(), await stub().target(1).next().prop, await attempt(() => stub().target(1).fail()), await attempt(() => stub().fail("plain").more()), await attempt(() => stub().echo({ a: { b: 1 } }).a.b), await attempt(() => stub().echo(5).x), await attempt(() => stub().fn()(2, 3)), await attempt(() => stub().targetWithData(1).sub.next().value())];
  },
  async pipelinedStub({ stub, name }) { return [await attempt(() => stub().stubOf(name + " 2").echo("pipelined")), await attempt(async () => described(await stub().stubOf(name + " 2"))), await attempt(async () => (await stub().stubOf(name + " 2")).echo(2))]; },
  async disposal({ stub }) {
    const sub = await stub().target(1);
    sub[Symbol.dispose]();
    const promise = stub().target(2);
    const value = await promise.value();
    promise[Symbol.dispose]?.();
    const kept = await stub().target(3);
    const copy = kept.dup();
    kept[Symbol.dispose]();
    const result = await stub().targetWithData(1);
    result[Symbol.dispose]?.();
    return [await attempt(() => sub.value()), value, await copy.value(), await attempt(() => kept.value()), await attempt(() => result.sub.value()), typeof result[Symbol.dispose], typeof stub()[Symbol.dispose], await attempt(() => stub().dup)];
  },
  serviceBindingPassedOn: ({ stub, env }) => stub().callStub(env.SELF, "a service binding"),
  callToAService: ({ env }) => env.SELF.echo(5),
  async passedOn({ stub }) {
    return [
      await attempt(() => stub().callStub(stub(" 2"), "passed on")), await attempt(() => stub().fetchStub(stub(" 2"))),
      await attempt(() => stub().echo(stub(" 3")).then((s) => [described(s), s.id, s.name])),
    ];
  },
  async passedToAService({ stub, env }) { return attempt(() => env.SELF.callStub(stub(), 1)); },
  async passedToOwnEntrypoint({ stub, ctx }) { return attempt(() => ctx.exports.Entry.callStub(stub(), 1)); },
  async streams({ stub }) {
    const writable = new IdentityTransformStream();
    const written = new Response(writable.readable).text();
    const wrote = await attempt(() => stub().writeTo(writable.writable, "to you"));
    return [
      await attempt(() => stub().readAll(new Response("from me").body)), await attempt(() => stub().readBytes(new Response(new Uint8Array(1 << 20)).body)), wrote, wrote.threw ? null : await written,
      await attempt(async () => new Response(await stub().stream("to me")).text()), await attempt(async () => (await new Response(await stub().byteStream(1 << 20)).arrayBuffer()).byteLength),
      await attempt(async () => new Response(await stub().failingStream()).text()), await attempt(() => stub().valueStream()), await attempt(() => stub().readAll(new ReadableStream({ start(c) { c.error(new TypeError("mine broke")); } }))),
    ];
  },
  async sink({ stub }) {
    const s = stub();
    const w = (await s.sink()).getWriter();
    await w.write(new TextEncoder().encode("down it goes"));
    await w.close();
    return s.whatSank();
  },
  async streamRead({ stub }) {
    const reader = (await stub().byteStream(200_000)).getReader();
    let n = 0;
    for (let r; !(r = await reader.read()).done; ) n += r.value.byteLength;
    return n;
  },
  async http({ stub }) {
    const request = await attempt(async () => { const r = await stub().giveRequest(); return [described(r), r.method, r.url, [...r.headers], await r.text()]; });
    const response = await attempt(async () => { const r = await stub().giveResponse(); return [described(r), r.status, r.statusText, [...r.headers], r.headers.getSetCookie(), await r.text()]; });
    return [await attempt(() => stub().takeRequest(new Request("http://x/y?z", { method: "PUT", body: "b", headers: { h: "1" } }))), await attempt(() => stub().takeResponse(new Response("r", { status: 404, headers: { h: "2" } }))), request, response];
  },
  async order({ stub }) { const s = stub(); return Promise.all([s.count(), s.count(), s.count(), s.count(), s.count()]); },
  async orderAcrossStubs({ stub }) { await stub().count(); return Promise.all([stub().count(), stub().count(), stub().count()]); },
  async unawaited({ stub }) { const s = stub(); s.count(); s.count(); return s.count(); },
  async old({ env, name }) { return [await attempt(() => env.OLD.getByName(name).method()), await attempt(() => env.OLD.getByName(name).constructor), await attempt(() => env.OLD.getByName(name).state)]; },
  async noFetch({ env, name }) { return [await attempt(() => env.NOFETCH.getByName(name).hello()), await attempt(() => env.NOFETCH.getByName(name).fetch("http://x/")), await attempt(() => env.NOFETCH.getByName(name).alarm())]; },
  async returns({ env, name }) {
    const s = env.RETURNS.getByName(name);
    return [await attempt(() => s.magic()), await attempt(() => s.plain()), await attempt(async () => (await s.fetch("http://x/")).text())];
  },
};
