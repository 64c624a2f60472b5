// What the object answers to fetch, by path.
import { described } from "./describe.js";

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const gzip = (text) => new Response(new Response(text).body.pipeThrough(new CompressionStream("gzip"))).arrayBuffer();

const paths = {
  async request(object, request) {
    const body = request.body === null ? "<no body>" : await request.text();
    return Response.json([request.method, request.url, [...request.headers], request.cf ?? "<no cf>", request.redirect, body.length > 200 ? body.length : body, request.signal?.aborted]);
  },
  async form(object, request) {
    const form = await request.formData();
    return Response.json([...form].map(([k, v]) => [k, typeof v === "string" ? v : [v.name, v.type, v.size]]));
  },
  async length(object, request) { return new Response(String((await request.arrayBuffer()).byteLength)); },
  echo: (object, request) => new Response(request.body, { headers: { "x-type": request.headers.get("content-type") ?? "" } }),
  hello: () => new Response("hello"),
  empty: () => new Response(""),
  none: () => new Response(null),
  "204": () => new Response(null, { status: 204 }),
  "304": () => new Response(null, { status: 304, headers: { etag: "x" } }),
  "418": () => new Response("short and stout", { status: 418, statusText: "Teapot" }),
  redirect: () => Response.redirect("http://elsewhere/there", 302),
  "redirect-here": () => new Response(null, { status: 302, headers: { location: "http://x/request" } }),
  "redirect-307": () => new Response(null, { status: 307, headers: { location: "http://x/request" } }),
  cookies: () => new Response("c", { headers: [["set-cookie", "a=1"], ["set-cookie", "b=2; path=/"], ["x-two", "1"], ["x-two", "2"]] }),
  json: () => Response.json({ a: 1 }),
  headers: () => new Response("x", { headers: { "cache-control": "no-store", connection: "close", "content-length": "1", "x-é": "ü", vary: "*", server: "mine", date: "now", "cf-ray": "mine" } }),
  gzip: () => new Response("gzip me ".repeat(100), { headers: { "content-encoding": "gzip" } }),
  gzipped: async () => new Response(await gzip("already"), { headers: { "content-encoding": "gzip" }, encodeBody: "manual" }),
  brotli: () => new Response("not really", { headers: { "content-encoding": "br" }, encodeBody: "manual" }),
  unknown: () => new Response("strange", { headers: { "content-encoding": "strange" } }),
  fixed: () => { const s = new FixedLengthStream(5); const w = s.writable.getWriter(); w.write(new TextEncoder().encode("fixed")); w.close(); return new Response(s.readable); },
  "fixed-short": () => { const s = new FixedLengthStream(9); const w = s.writable.getWriter(); w.write(new TextEncoder().encode("short")).then(() => w.close()).catch(() => {}); return new Response(s.readable); },
  large: () => new Response(new Uint8Array(8 << 20).fill(97)),
  "large-stream": () => {
    let left = 128;
    return new Response(new ReadableStream({ pull(c) { c.enqueue(new Uint8Array(65536).fill(98)); if (--left === 0) c.close(); } }));
  },
  slow: () => {
    let n = 0;
    return new Response(new ReadableStream({ async pull(c) { await sleep(2); c.enqueue(new TextEncoder().encode("part " + n)); if (++n === 5) c.close(); } }));
  },
  broken: () => {
    let n = 0;
    return new Response(new ReadableStream({ async pull(c) { await sleep(1); if (n++ === 0) c.enqueue(new Uint8Array(3)); else c.error(new Error("the body broke")); } }));
  },
  endless: (object) => {
    object.cancelled = undefined;
    return new Response(new ReadableStream({
      async pull(c) { await sleep(1); c.enqueue(new Uint8Array(1000)); },
      cancel(reason) { object.cancelled = described(reason) ?? null; },
    }));
  },
  async "was-cancelled"(object) {
    for (let i = 0; i < 2000 && object.cancelled === undefined; i++) await sleep(5);
    return Response.json(object.cancelled === undefined ? "never" : "cancelled");
  },
  async wait(object, request) {
    object.aborted = undefined;
    request.signal?.addEventListener("abort", () => (object.aborted = true));
    await sleep(100);
    return new Response("waited");
  },
  "was-aborted": (object) => Response.json(object.aborted ?? null),
  throw() { throw Object.assign(new RangeError("thrown in fetch"), { code: 3 }); },
  async "throw-later"() { await sleep(1); throw new TypeError("thrown later"); },
  "throw-string"() { throw "a string"; },
  nothing() {},
  number: () => 5,
  abort(object) { object.ctx.abort(new Error("aborted in fetch")); },
  async slurp(object, request) { for await (const chunk of request.body) return Response.json([chunk.byteLength]); return new Response("nothing"); },
  ignore: () => new Response("did not read it"),
  async subrequest(object) { return object.env.OBJ.getByName(object.ctx.id.name + " behind").fetch("http://x/hello"); },
  plain(object) {
    const [client, server] = Object.values(new WebSocketPair());
    server.accept();
    server.addEventListener("message", (e) => {
      if (e.data === "close me") server.close(4002, "plainly");
      else server.send(typeof e.data === "string" ? "plain " + e.data : e.data);
    });
    server.addEventListener("close", (e) => { object.ctx.storage.put("closed", [e.code, e.reason, e.wasClean]); server.close(); });
    return new Response(null, { status: 101, webSocket: client, headers: { "sec-websocket-protocol": "chat", "x-extra": "1" } });
  },
  hibernatable(object) {
    const [client, server] = Object.values(new WebSocketPair());
    object.ctx.acceptWebSocket(server, ["a", "b"]);
    object.ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair("ping", "pong"));
    server.serializeAttachment({ first: true });
    server.send("welcome");
    return new Response(null, { status: 101, webSocket: client });
  },
};

export function serve(object, request) {
  const path = paths[new URL(request.url).pathname.slice(1)];
  return path ? path(object, request) : new Response("no such path: " + request.url, { status: 404 });
}
