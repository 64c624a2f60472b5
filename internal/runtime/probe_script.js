// Runs above a script in service-worker syntax: its listeners are noted, not registered, and the probe's is the only one.
{
  const add = globalThis.addEventListener;
  const handlers = [];
  globalThis.addEventListener = (type, listener) => {
    if (typeof listener === "function") handlers.push(String(type));
  };
  add.call(globalThis, "fetch", (event) => event.respondWith(Response.json({ handlers, named: [] })));
}
