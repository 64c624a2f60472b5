// Requests, responses and sockets.
import { attempt, described, ended } from "./describe.js";

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// seen is all of a response that a user can see.
async function seen(response) {
  const { status, statusText, url, redirected, headers, cf, type, ok, webSocket } = response;
  const noBody = response.body === null;
  const body = await attempt(() => response.arrayBuffer().then((b) => (b.byteLength > 300 ? b.byteLength : new TextDecoder().decode(b))));
  return { status, statusText, url, redirected, headers: [...headers], cookies: headers.getSetCookie?.() ?? headers.getAll("set-cookie"), cf, type, ok, webSocket, noBody, body };
}

const plain = ["hello", "empty", "none", "204", "304", "418", "redirect", "redirect-307", "cookies", "json", "headers", "gzip", "gzipped", "brotli", "unknown", "fixed", "fixed-short", "large", "large-stream", "slow", "broken", "throw", "throw-later", "throw-string", "nothing", "number", "no-such"];

async function events(ws, messages) {
  const log = [];
  let wake;
  const tell = (...what) => { log.push(what); wake?.(); };
  ws.addEventListener("message", (e) => tell("message", typeof e.data === "string" ? e.data : described(e.data)));
  ws.addEventListener("close", (e) => tell("close", e.code, e.reason, e.wasClean));
  ws.addEventListener("error", (e) => tell("error", described(e.error ?? e.message)));
  ws.accept();
  for (const [send, answers] of messages) {
    const until = log.length + answers;
    if (Array.isArray(send)) ws.close(...send);
    else if (send !== null) ws.send(send);
    for (let i = 0; i < 1000 && log.length < until; i++) await Promise.race([new Promise((done) => (wake = done)), sleep(10)]);
  }
  return [log, ws.readyState];
}

const upgrade = { headers: { upgrade: "websocket", "sec-websocket-protocol": "chat" } };

async function connected(stub, path) {
  const response = await stub.fetch("http://x/" + path, upgrade);
  return [response, response.webSocket];
}

export default {
  ...Object.fromEntries(plain.map((path) => ["get " + path, async ({ stub }) => seen(await stub().fetch("http://x/" + path, { redirect: "manual" }))])),
  ...Object.fromEntries(["hello", "gzip", "cookies", "204", "fixed", "large", "none"].map((path) => ["head " + path, async ({ stub }) => seen(await stub().fetch("http://x/" + path, { method: "HEAD" }))])),

  async methods({ stub }) {
    const out = [];
    for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "get", "patch", "PURGE", "TRACE", "CONNECT", "NOPE"]) {
      out.push([method, await attempt(async () => (await stub().fetch("http://x/request", { method })).json())]);
    }
    return out;
  },
  async bodies({ stub }) {
    const send = (body, headers) => attempt(async () => (await stub().fetch("http://x/request", { method: "POST", body, headers })).json());
    const { readable, writable } = new IdentityTransformStream();
    const w = writable.getWriter();
    w.write(new TextEncoder().encode("streamed")).then(() => w.close());
    return [
      await send("text"), await send(""), await send(null), await send(readable), await send(new URLSearchParams({ a: "b c" })), await send(new Uint8Array([65, 66])), await send(new Blob(["blob"], { type: "x/y" })),
      await send("z", { "content-type": "application/json" }), await send("h", { "x-a": "1", cookie: "c=d", host: "other", "user-agent": "me", "cf-ray": "r", authorization: "b", "accept-encoding": "br", "transfer-encoding": "chunked", "tidegate-object-control": "guess" }),
    ];
  },
  async form({ stub }) {
    const form = new FormData();
    form.append("a", "1");
    form.append("a", "2");
    form.append("file", new File(["content"], "f.txt", { type: "text/plain" }));
    return attempt(async () => (await stub().fetch("http://x/form", { method: "POST", body: form })).json());
  },
  async large({ stub }) {
    const bytes = new Uint8Array(8 << 20).fill(99);
    const there = await (await stub().fetch("http://x/length", { method: "POST", body: bytes })).text();
    const streamed = await (await stub().fetch("http://x/length", { method: "POST", body: new Response(bytes).body })).text();
    const echoed = await (await stub().fetch("http://x/echo", { method: "POST", body: bytes })).arrayBuffer();
    return [there, streamed, echoed.byteLength, new Uint8Array(echoed).every((b) => b === 99)];
  },
  async requests({ stub }) {
    const f = (...args) => attempt(async () => (await stub().fetch(...args)).json());
    return [
      await f(new Request("http://x/request?q=1#hash", { headers: { a: "b" } })), await f(new URL("https://user:pw@host:8080/request")), await f("http://x/request", { cf: { country: "XX", colo: "TST" } }),
      await f(new Request("http://x/request", { method: "POST", body: "a" }), { headers: { b: "c" } }), await f("http://x/request", { redirect: "error" }), await f("http://x/%2f/../request"), await f("http://EXAMPLE.com:80/request"),
    ];
  },
  async relative({ stub }) {
    const out = [];
    for (const url of ["/request", "request", "", "?q", "//host/request", "ftp://x/request", "http://", undefined, 5]) out.push([String(url), await attempt(async () => (await stub().fetch(url)).json())]);
    return [out, await attempt(() => stub().fetch())];
  },
  async follow({ stub }) { return [await attempt(async () => seen(await stub().fetch("http://x/redirect-here"))), await attempt(async () => seen(await stub().fetch("http://x/redirect-307", { method: "POST", body: "again" }))), await attempt(async () => seen(await stub().fetch("http://x/redirect-here", { redirect: "error" })))]; },
  async passedOn({ stub }) {
    // What most Workers do with a response of an object.
    const r = await stub().fetch("http://x/gzip");
    const copy = new Response(r.body, r);
    copy.headers.set("x-more", "1");
    const clone = (await stub().fetch("http://x/hello")).clone();
    const cookies = new Response((await stub().fetch("http://x/cookies")).body, await stub().fetch("http://x/cookies"));
    return [await seen(copy), await seen(clone), await seen(cookies)];
  },
  async raw({ stub }) {
    const reader = (await stub().fetch("http://x/slow")).body.getReader();
    let text = "";
    for (let r; !(r = await reader.read()).done; ) text += new TextDecoder().decode(r.value);
    return text;
  },
  async ranged({ stub }) {
    const reader = (await stub().fetch("http://x/large-stream")).body.getReader({ mode: "byob" });
    let n = 0;
    for (let r; !(r = await reader.read(new Uint8Array(100_000))).done; ) n += r.value.byteLength;
    return n;
  },
  async slowReader({ stub }) {
    const reader = (await stub().fetch("http://x/large-stream")).body.getReader();
    let n = 0;
    for (let i = 0, r; !(r = await reader.read()).done; i++) { n += r.value.byteLength; if (i < 20) await sleep(1); }
    return n;
  },
  async cancelled({ stub }) {
    const s = stub();
    const { body } = await s.fetch("http://x/endless");
    const reader = body.getReader();
    const first = (await reader.read()).value.byteLength > 0;
    await reader.cancel("enough");
    return [first, await (await s.fetch("http://x/was-cancelled")).json()];
  },
  async cancelledEarly({ stub }) {
    const s = stub();
    await (await s.fetch("http://x/endless")).body.cancel();
    return (await s.fetch("http://x/was-cancelled")).json();
  },
  async aborted({ stub }) {
    const s = stub();
    const controller = new AbortController();
    const answer = attempt(async () => (await s.fetch("http://x/wait", { signal: controller.signal })).text());
    await sleep(20);
    controller.abort();
    return [await answer, await attempt(async () => (await s.fetch("http://x/was-aborted")).json())];
  },
  async abortedBefore({ stub }) { return [await attempt(() => stub().fetch("http://x/wait", { signal: AbortSignal.abort() })), await attempt(() => stub().fetch("http://x/wait", { signal: AbortSignal.timeout(5) }))]; },
  async abortedBody({ stub }) {
    const controller = new AbortController();
    const response = await stub().fetch("http://x/endless", { signal: controller.signal });
    controller.abort();
    return attempt(() => response.text());
  },
  async bodyUnread({ stub }) {
    const send = (path, body) => attempt(async () => (await stub().fetch("http://x/" + path, { method: "POST", body })).text());
    return [await send("ignore", "x".repeat(100_000)), await send("ignore", new Response(new Uint8Array(1 << 20)).body), await send("slurp", "abc"), await send("throw", "x".repeat(1 << 20))];
  },
  async brokenUpload({ stub }) {
    let n = 0;
    const body = new ReadableStream({ pull(c) { if (n++ === 0) c.enqueue(new Uint8Array(3)); else c.error(new TypeError("upload broke")); } });
    return attempt(async () => (await stub().fetch("http://x/length", { method: "POST", body })).text());
  },
  async unused({ stub }) { const r = await stub().fetch("http://x/large-stream"); return [r.status, r.bodyUsed]; },
  subrequest: async ({ stub }) => seen(await stub().fetch("http://x/subrequest")),
  async abort({ stub }) {
    const s = stub();
    return [await ended(() => s.fetch("http://x/abort")), await attempt(async () => (await stub().fetch("http://x/hello")).text())];
  },
  async reused({ stub }) {
    const s = stub();
    const request = new Request("http://x/echo", { method: "POST", body: "once" });
    return [await attempt(async () => (await s.fetch(request)).text()), await attempt(async () => (await s.fetch(request)).text()), request.bodyUsed];
  },
  async parallel({ stub }) { const s = stub(); return Promise.all([..."abcdef"].map(async (c) => (await s.fetch("http://x/echo", { method: "POST", body: c })).text())); },
  async old({ env, name }) {
    const s = env.OLD.getByName(name);
    const out = [];
    for (const path of ["which", "sql", "storage", "throw", "alarm", "rang", "x"]) out.push(await attempt(async () => seen(await s.fetch("http://x/" + path))));
    return out;
  },

  async socketPlain({ stub }) {
    const s = stub();
    const [response, ws] = await connected(s, "plain");
    const got = await events(ws, [["hi", 1], [new Uint8Array([1, 2, 3]), 1], ["é€", 1], ["x".repeat(100_000), 1], ["close me", 1]]);
    got[0] = got[0].map(([kind, data, ...rest]) => [kind, typeof data === "string" && data.length > 200 ? data.length : data, ...rest]);
    return [response.status, response.statusText, [...response.headers], response.body, described(ws), got];
  },
  async socketPlainClosed({ stub }) {
    const s = stub();
    const [, ws] = await connected(s, "plain");
    return [await events(ws, [["hi", 1], [[4003, "I go"], 1]]), await s.closed()];
  },
  async socketHibernatable({ stub }) {
    const [response, ws] = await connected(stub(), "hibernatable");
    return [response.status, [...response.headers], await events(ws, [[null, 1], ["hi", 1], ["ping", 1], ["tags", 1], ["attach", 1], ["auto", 1], [new Uint8Array([5]), 1], ["all", 1], ["close me", 1]])];
  },
  async socketHibernatableClosed({ stub }) {
    const s = stub();
    const [, ws] = await connected(s, "hibernatable");
    return [await events(ws, [[null, 1], ["hi", 1], [[4004, "I go too"], 1]]), await s.closed()];
  },
  async socketClosedWithoutCode({ stub }) {
    const s = stub();
    const [, ws] = await connected(s, "hibernatable");
    return [await events(ws, [[null, 1], [[], 1]]), await s.closed()];
  },
  async socketThrows({ stub }) {
    const [, ws] = await connected(stub(), "hibernatable");
    return events(ws, [[null, 1], ["throw", 0], ["still", 1]]);
  },
  async socketAborted({ stub }) {
    const s = stub();
    const [, ws] = await connected(s, "hibernatable");
    const welcome = new Promise((done) => ws.addEventListener("message", done));
    const got = events(ws, [[null, 1], [null, 1]]);
    await welcome;
    await attempt(() => s.abort("reset"));
    return got;
  },
  async socketRefused({ stub }) { return [await attempt(async () => seen(await stub().fetch("http://x/plain"))), await attempt(async () => seen(await stub().fetch("http://x/hello", upgrade)))]; },
};
