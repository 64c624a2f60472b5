// The API of a binding to Durable Objects. Ids are the runtime's own; a stub leads to
// the proxy of its object, and is otherwise what the runtime would give.
const NAME_BYTES_MAX = 1024 - 65; // as much as a proxy, named by its object's id too, is told
const utf8 = new TextEncoder();

// Methods take what they get, so that the runtime checks arguments and names them.
class DurableObjectNamespace {
  #ids;
  #proxies;

  constructor(ids, proxies) {
    this.#ids = ids;
    this.#proxies = proxies;
  }

  newUniqueId(...args) {
    return this.#ids.newUniqueId(...args);
  }

  idFromName(...args) {
    return this.#ids.idFromName(...args);
  }

  idFromString(...args) {
    return this.#ids.idFromString(...args);
  }

  get(...args) {
    return this.#proxy(this.#ids.get(...args));
  }

  getByName(...args) {
    return this.#proxy(this.#ids.getByName(...args));
  }

  jurisdiction(...args) {
    return new DurableObjectNamespace(this.#ids.jurisdiction(...args), this.#proxies);
  }

  #proxy({ id, name }) {
    let known = id.toString();
    if (name !== undefined && utf8.encode(name).length <= NAME_BYTES_MAX) known += ":" + name;
    const stub = this.#proxies.getByName(known);
    const shown = { enumerable: true, configurable: true };
    Object.defineProperty(stub, "name", { ...shown, value: name });
    return Object.defineProperty(stub, "id", { ...shown, value: id });
  }
}

// As the runtime's classes have it, by the Worker's compatibility date.
if (Symbol.toStringTag in Headers.prototype) {
  Object.defineProperty(DurableObjectNamespace.prototype, Symbol.toStringTag, { value: "DurableObjectNamespace", configurable: true });
}

export default ({ ids, proxies }) => new DurableObjectNamespace(ids, proxies);
