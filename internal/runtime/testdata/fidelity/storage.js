// What an object's storage does; the same, whoever asks for it.
import { described, attempt } from "./describe.js";

export const storage = {
  async async({ storage: s }) {
    const out = [];
    await s.put("a", 1);
    await s.put({ b: new Date(2), c: new Map([[1, new Uint8Array([1, 2])]]), d: undefined });
    out.push(await s.get("a"), await s.get(["a", "b", "none"]), await s.list(), await s.list({ prefix: "b" }), await s.list({ start: "b", limit: 1 }), await s.list({ reverse: true, end: "c" }));
    out.push(await s.delete("a"), await s.delete("a"), await s.delete(["b", "c", "x"]));
    out.push(await attempt(() => s.put("f", () => 1)), await attempt(() => s.put("x".repeat(3000), 1)), await attempt(() => s.get()), await attempt(() => s.put(undefined, 1)));
    out.push(await s.transaction(async (txn) => { await txn.put("t", 1); return txn.get("t"); }));
    out.push(await attempt(() => s.transaction(async (txn) => { await txn.put("t", 2); throw new Error("rolled back"); })), await s.get("t"));
    out.push(await s.transaction(async (txn) => { await txn.put("t", 3); txn.rollback(); }), await s.get("t"));
    await s.sync();
    await s.deleteAll();
    out.push(await s.list(), Object.keys(s), typeof s.getCurrentBookmark, typeof s.transactionSync, typeof s.kv);
    return described(out);
  },

  sql({ storage: s }) {
    const out = [];
    s.sql.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, b BLOB)");
    out.push(s.sql.exec("INSERT INTO t (v, b) VALUES (?, ?), ('two', NULL) RETURNING id", "one", new Uint8Array([1]).buffer).toArray());
    const cursor = s.sql.exec("SELECT * FROM t");
    out.push(cursor.columnNames, [...cursor], cursor.rowsRead, s.sql.exec("SELECT v FROM t").raw().toArray(), s.sql.exec("SELECT count(*) n FROM t").one());
    for (const bad of ["SELECT", "SELECT * FROM none", "BEGIN", "ATTACH 'x' AS y", "SELECT * FROM _cf_KV"]) try { out.push(s.sql.exec(bad).toArray()); } catch (e) { out.push(e); }
    out.push(s.transactionSync(() => { s.sql.exec("DELETE FROM t WHERE id = 1"); return "deleted"; }));
    try { s.transactionSync(() => { s.sql.exec("DELETE FROM t"); throw new Error("undone"); }); } catch (e) { out.push(e); }
    out.push(s.sql.exec("SELECT id FROM t").toArray(), s.sql.databaseSize > 0);
    return described(out);
  },

  kv({ storage: s }) {
    if (!s.kv) return "none";
    s.kv.put("a", { x: 1n });
    s.kv.put("b", 2);
    return described([s.kv.get("a"), [...s.kv.list()], s.kv.delete("a"), s.kv.delete("a"), s.kv.get("none")]);
  },

  async context(ctx) {
    const own = new Set();
    for (let o = ctx; o && o !== Object.prototype; o = Object.getPrototypeOf(o)) for (const n of Object.getOwnPropertyNames(o)) own.add(n);
    return described([[...own].sort(), await attempt(() => ctx.storage.getCurrentBookmark()), typeof ctx.facets, ctx.container, ctx.version]);
  },
};
