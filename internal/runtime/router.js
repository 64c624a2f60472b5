// The router's own Worker inside every process: it hands ended invocations to the
// router, answers its health checks, and triggers the scheduled handler.
const BATCH_ITEMS_MAX = 512;
const BATCH_CHARS_MAX = 1 << 20; // the first item may be longer; the router takes 8 MiB
const QUEUE_CHARS_MAX = 8 << 20; // while the router is slow; more is dropped and counted
const LINGER_MS = 10; // between two batches: a small one costs as much as a large one

let queue = [];
let queued = 0; // characters in queue
let dropped = 0; // since the router was told
let sending = false;

// Only what the router needs, and members by themselves: each one that is read is
// work on the one thread that also runs the user's code.
function toLine(item) {
  const { logs, exceptions, entrypoint, durableObjectId } = item;
  let line =
    `{"outcome":"${item.outcome}","executionModel":"${item.executionModel}","eventTimestamp":${+item.eventTimestamp}` +
    `,"event":${JSON.stringify(eventOf(item.event))}`;
  if (logs.length > 0) line += `,"logs":${JSON.stringify(logs)}`;
  if (exceptions.length > 0) line += `,"exceptions":${JSON.stringify(exceptions.map(withoutOurs))}`;
  if (entrypoint) line += `,"entrypoint":${JSON.stringify(entrypoint.startsWith(OWN) ? entrypoint.slice(OWN.length) : entrypoint)}`;
  if (durableObjectId) line += `,"durableObjectId":${JSON.stringify(durableObjectId)}`;
  if (item.truncated) line += `,"truncated":true`;
  return line + "}";
}

// The frame below that of an object's constructor or handler is ours.
const HOSTED = /\n +at [^\n]*\(tidegate-hosted-\d+:[^\n]*/g;

function withoutOurs({ name, message, stack, timestamp }) {
  return { name, message, stack: stack?.replace(HOSTED, ""), timestamp };
}

function eventOf(event) {
  if (!event) return null;
  const { request } = event;
  if (request) {
    const { response } = event;
    return {
      request: { url: request.url, method: request.method, ray: request.headers["cf-ray"] },
      response: response && { status: response.status },
    };
  }
  if (event.consumedEvents) return { consumedEvents: event.consumedEvents.map((e) => ({ scriptName: e.scriptName })) };
  if ("getWebSocketEvent" in event) return { webSocket: event.getWebSocketEvent };
  return event;
}

const OWN = "tidegate:"; // entry points of ours in the user's Worker

// ours reports whether an invocation of the user's Worker was of our making: a note, an
// order to an object, or an alarm of one that was moving.
function ours({ entrypoint, event, exceptions }, { SECRET: secret, MOVING_ALARM: movingAlarm }) {
  if (!entrypoint?.startsWith(OWN)) return false;
  return (
    entrypoint === OWN + "notes" ||
    event?.request?.headers["tidegate-object-control"]?.startsWith(secret + " ") ||
    exceptions[0]?.message.includes(movingAlarm)
  );
}

function push(item, env) {
  let line;
  try {
    if (env.SECRET && ours(item, env)) return;
    line = toLine(item);
  } catch (e) {
    dropped++;
    console.error("an invocation could not be read:", e.message);
    return;
  }
  if (queued + line.length > QUEUE_CHARS_MAX && queue.length > 0) {
    dropped++;
    return;
  }
  queue.push(line);
  queued += line.length;
}

function takeBatch() {
  let n = 1;
  let chars = queue[0].length;
  while (n < queue.length && n < BATCH_ITEMS_MAX && chars + queue[n].length <= BATCH_CHARS_MAX) {
    chars += queue[n++].length;
  }
  queued -= chars;
  const batch = n === queue.length ? queue : queue.slice(0, n);
  queue = n === queue.length ? [] : queue.slice(n);
  return batch;
}

// One sender at a time, so that batches grow while one is under way.
async function sendAll(sink) {
  while (queue.length > 0) {
    const batch = takeBatch();
    const lost = dropped;
    dropped = 0;
    try {
      const response = await sink.fetch("http://router/", {
        method: "POST",
        headers: { "Tidegate-Dropped": String(lost) },
        body: batch.join("\n") + "\n",
      });
      if (!response.ok) throw new Error(`the router answered ${response.status}`);
    } catch (e) {
      dropped += lost + batch.length;
      console.error("invocations could not be handed over:", e.message);
    }
    if (queue.length < BATCH_ITEMS_MAX) await scheduler.wait(LINGER_MS);
  }
}

// Nothing is cached here: a look-up misses, and what is put is forgotten, as on a
// workers.dev host. The runtime asks by "only-if-cached", PUT and PURGE.
export const cache = {
  fetch(request) {
    switch (request.method) {
      case "PUT":
        return request.arrayBuffer().then(() => new Response(null, { status: 204 }));
      case "PURGE":
        return new Response(null, { status: 404 });
    }
    return new Response(null, { status: 504, headers: { "CF-Cache-Status": "MISS" } });
  },
};

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    if (url.pathname.startsWith("/objects/")) return env.OBJECTS.fetch(request);
    if (url.pathname !== "/scheduled") return new Response(null, { status: 204 });
    return Response.json(
      await env.USER.scheduled({
        cron: url.searchParams.get("cron"),
        scheduledTime: new Date(Number(url.searchParams.get("time"))),
      }),
    );
  },

  async tail(items, env) {
    for (const item of items) push(item, env);
    if (sending) return;
    sending = true;
    try {
      await sendAll(env.SINK);
    } finally {
      sending = false;
    }
  },
};
