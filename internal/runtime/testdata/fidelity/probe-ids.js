// Namespaces, ids and stubs.
import { attempt, described, framesOf, thrown } from "./describe.js";

const methods = ["newUniqueId", "idFromName", "idFromString", "get", "getByName", "getExisting", "jurisdiction"];

export default {
  async namespace({ ns, env }) {
    return [
      Object.prototype.toString.call(ns), ns.constructor.name, Object.keys(ns), JSON.stringify(ns), typeof ns, String(ns),
      methods.map((n) => [n, typeof ns[n], n in ns, ns[n]?.length, ns[n]?.name]), Object.getOwnPropertyNames(Object.getPrototypeOf(ns)).sort(),
      Object.getOwnPropertyNames(ns), Object.isFrozen(ns), Object.isExtensible(ns), env.OBJ === env.OBJ, ns.then, Object.hasOwn(globalThis, "DurableObjectNamespace"),
    ];
  },
  async misused({ ns }) {
    return [await attempt(() => structuredClone(ns)), await attempt(() => new ns.constructor()), await attempt(() => ns.get.call({}, 1))];
  },
  async stacks({ ns }) {
    return [framesOf(await thrown(() => ns.idFromString("x"))), framesOf(await thrown(() => ns.get()))];
  },
  async extended({ ns }) {
    return [await attempt(() => { ns.mine = 1; return ns.mine; }), await attempt(() => delete ns.mine)];
  },
  async unique({ ns }) {
    const [a, b] = [ns.newUniqueId(), ns.newUniqueId()];
    return [
      a.toString().length, a.equals(b), a.equals(a), a.equals(ns.idFromString(a.toString())), a.name, "name" in a, ns.get(a).name, await ns.get(a).echo(1),
      await attempt(() => ns.newUniqueId({ jurisdiction: "eu" })), await attempt(() => ns.newUniqueId({ jurisdiction: null }).toString().length),
      await attempt(() => ns.newUniqueId(5)), await attempt(() => ns.newUniqueId({ unknown: 1 }).toString().length),
    ];
  },
  async uniqueWhoami({ ns }) {
    const id = ns.newUniqueId();
    const who = await ns.get(id).whoami();
    return [who.text === id.toString(), { ...who, text: 0, json: who.json }];
  },
  async named({ ns, name }) {
    const id = ns.idFromName(name);
    const again = ns.idFromName(name);
    return [
      id.toString(), String(id), `${id}`, id.name, id.equals(again), id === again, Object.keys(id), JSON.stringify(id), Object.getOwnPropertyNames(id),
      Object.prototype.toString.call(id), id.constructor.name, ns.idFromString(id.toString()).name, ns.idFromString(id.toString().toUpperCase()).equals(id), id.jurisdiction,
      ns.idFromName("").toString(), ns.idFromName("").name, ns.idFromName("é €").name, ns.idFromName(5).name, ns.idFromName("a\0b").name, await attempt(() => ns.idFromName()),
      await attempt(() => ns.idFromName(Symbol())), await attempt(() => id.equals("x")), await attempt(() => structuredClone(id)),
    ];
  },
  async garbage({ ns, env }) {
    const ids = ["", "x", "0".repeat(64), "g".repeat(64), env.OLD.idFromName("a").toString(), env.OLD.newUniqueId().toString(), 5];
    const out = [];
    for (const id of ids) out.push(await attempt(() => ns.idFromString(id)));
    for (const id of [undefined, null, "a", {}, 5, ns.idFromName("x").toString()]) out.push(await attempt(() => ns.get(id)));
    out.push(await attempt(() => ns.get()), await attempt(() => ns.idFromString()));
    return out;
  },
  async foreign({ ns, env }) {
    const id = env.OLD.idFromName("foreign");
    const stub = await attempt(() => ns.get(id).name);
    return [stub, await attempt(() => ns.get(id).echo(1)), await attempt(async () => (await ns.get(id).fetch("http://x/hello")).text())];
  },
  async options({ ns, name }) {
    const id = ns.idFromName(name);
    const out = [];
    for (const o of [{}, undefined, null, { locationHint: "weur" }, { locationHint: "nowhere" }, { locationHint: 5 }, { routingMode: "primary-only" }, { routingMode: "x" }, { version: { cohort: "a" } }, 7, "x"]) {
      out.push(await attempt(() => ns.get(id, o).echo("got")), await attempt(() => ns.getByName(name, o).echo("got")));
    }
    return [out, await attempt(() => ns.getByName()), await attempt(() => ns.getByName(5).name), await attempt(() => ns.getByName("é").echo(1))];
  },
  async jurisdiction({ ns }) {
    return [
      await attempt(() => ns.jurisdiction("eu")), await attempt(() => ns.jurisdiction("mars")), await attempt(() => ns.jurisdiction(null).idFromName("a").toString()),
      await attempt(() => ns.jurisdiction().getByName("a").echo(1)), await attempt(() => ns.jurisdiction(undefined).constructor.name), await attempt(() => ns.jurisdiction(5)),
    ];
  },
  async stub({ ns, name }) {
    const id = ns.idFromName(name);
    const stub = ns.get(id);
    return [
      stub.id === id, stub.id.toString(), stub.id.name, stub.name, Object.keys(stub), JSON.stringify(stub), Object.getOwnPropertyNames(stub).sort(),
      described(Object.getOwnPropertyDescriptor(stub, "id")), described(Object.getOwnPropertyDescriptor(stub, "name")),
      ["id", "name", "fetch", "connect", "anything", "then"].map((n) => [n, n in stub, typeof stub[n]]), typeof stub, stub === ns.get(id), ns.getByName(name).name,
      ns.get(ns.idFromString(id.toString())).name, await attempt(() => { stub.id = 5; return stub.id === id; }), await attempt(() => { stub.name = 5; return stub.name; }),
      await attempt(() => { stub.mine = 5; return stub.mine; }), await attempt(() => delete stub.id), await attempt(() => stub.id === id),
      await attempt(() => structuredClone(stub)), await attempt(() => Object.freeze(stub) === stub), Reflect.ownKeys(stub).length,
    ];
  },
  async stubClass({ ns, name }) {
    const stub = ns.getByName(name);
    return [Object.prototype.toString.call(stub), stub.constructor?.name, String(stub)];
  },
  async stubPrototype({ ns, name }) {
    const out = [];
    for (let p = Object.getPrototypeOf(ns.getByName(name)); p && p !== Object.prototype; p = Object.getPrototypeOf(p)) out.push([p.constructor.name, Object.getOwnPropertyNames(p).sort()]);
    return out;
  },
  async stubOldMethods({ ns, name }) {
    const stub = ns.getByName(name);
    return ["get", "put", "delete", "queue", "scheduled", "dup", "self"].map((n) => [n, typeof stub[n]]);
  },
  whoami: ({ stub }) => stub().whoami(),
  async whoamiFetched({ ns, name }) { return (await ns.getByName(name).fetch("http://x/hello")).status; },
  async idsAreEqual({ ns, name }) {
    const id = ns.idFromName(name);
    return [await ns.get(id).idIs(id.toString()), await ns.get(id).myStub(), await ns.get(id).callMyself()];
  },
  // By the id alone nobody knows the name: what the object sees first stays.
  async nameless({ ns, name }) {
    const id = ns.idFromString(ns.idFromName(name).toString());
    const first = await ns.get(id).whoami();
    return [id.name, first.name, (await ns.getByName(name).whoami()).name];
  },
  async namedThenNameless({ ns, name }) {
    const first = await ns.getByName(name).whoami();
    return [first.name, (await ns.get(ns.idFromString(first.text)).whoami()).name];
  },
  async longNameAtTheLimit({ ns, name }) { return [(await ns.getByName(name.padEnd(960, "x")).whoami()).name?.length, (await ns.getByName(name.padEnd(1024, "x")).whoami()).name?.length]; },
  async longName({ ns, name }) {
    const out = [];
    for (const n of [959, 1025, 5000]) {
      const long = name.padEnd(n, "x");
      const stub = ns.getByName(long);
      out.push(stub.name.length, stub.id.name.length, (await stub.whoami()).name?.length ?? null);
    }
    const wide = ns.getByName(name + "€".repeat(400));
    return [out, wide.name.length, (await wide.whoami()).name?.length ?? null];
  },
  async oddNames({ ns, name }) {
    const out = [];
    for (const n of ["", " ", "a\nb", "é€😀", "\ud800", "a\0b", name + "%20&?/"]) out.push([described(ns.getByName(n).name), (await ns.getByName(n).whoami()).name]);
    return out;
  },
  async env({ env, globalEnv, name }) {
    return [Object.keys(env).sort(), env === globalEnv, Object.keys(globalEnv).sort(), await attempt(() => globalEnv.OBJ.getByName(name).echo("through the import")), await attempt(() => env.OBJ.getByName(name).envs())];
  },
  async exports({ ctx, stub }) {
    return [typeof ctx.exports, ctx.exports && Object.keys(ctx.exports).sort(), await attempt(() => ctx.exports.Entry.echo(1)), await attempt(() => stub().exports())];
  },
  async exportsNamespace({ ctx, ns, name, stub }) {
    return [
      await attempt(() => ctx.exports.Obj.constructor.name), await attempt(() => typeof ctx.exports.Obj.getByName),
      await attempt(() => ctx.exports.Obj.idFromName(name).equals(ns.idFromName(name))), await attempt(() => ctx.exports.Obj.getByName(name).store("a", 1)),
      await attempt(() => stub().load("a")), await attempt(() => stub().throughExports(name + " other")),
    ];
  },
};
