// The API of a binding to Durable Objects. Ids are the runtime's own; a stub leads to
// the proxy of its object.
const NAME_BYTES_MAX = 1024; // above, an object is not told its name by the runtime either
const utf8 = new TextEncoder();

class DurableObjectNamespace {
  #ids;
  #proxies;

  constructor(ids, proxies) {
    this.#ids = ids;
    this.#proxies = proxies;
  }

  newUniqueId(options) {
    return this.#ids.newUniqueId(options);
  }

  idFromName(name) {
    return this.#ids.idFromName(name);
  }

  idFromString(id) {
    return this.#ids.idFromString(id);
  }

  get(id, options) {
    this.#ids.get(id, options); // which refuses what is no id, and unknown options
    const { name } = id;
    const told = name !== undefined && utf8.encode(name).length <= NAME_BYTES_MAX ? name : "";
    const stub = this.#proxies.get(id.toString() + told);
    Object.defineProperty(stub, "id", { value: id, enumerable: true });
    Object.defineProperty(stub, "name", { value: name, enumerable: true });
    return stub;
  }

  getByName(name, options) {
    return this.get(this.#ids.idFromName(name), options);
  }

  jurisdiction(jurisdiction) {
    return new DurableObjectNamespace(this.#ids.jurisdiction(jurisdiction), this.#proxies);
  }
}

export default ({ ids, proxies }) => new DurableObjectNamespace(ids, proxies);
