// Runs every probe of the Durable Objects API, each with objects of its own, and
// answers with what it saw.
import { WorkerEntrypoint, env as globalEnv } from "cloudflare:workers";
import { attempt } from "./describe.js";
import * as ids from "./probe-ids.js";
import * as rpc from "./probe-rpc.js";
import * as fetches from "./probe-fetch.js";
import * as life from "./probe-life.js";

export { Obj, Old, NoFetch, Fails, Returns, Sub } from "./objects.js";

export class Entry extends WorkerEntrypoint {
  echo(x) { return x; }
  async callStub(stub, x) { return [await stub.echo(x), await (await stub.fetch("http://x/hello")).text()]; }
}

const PATIENCE_MS = 50_000; // less than the minute after which the caller gives up

export default {
  async fetch(request, env, ctx) {
    const wanted = new URL(request.url).searchParams.get("probe");
    const seen = {};
    const run = async (name, probe) => {
      const t = { env, ctx, globalEnv, ns: env.OBJ, stub: (suffix = "") => env.OBJ.get(env.OBJ.idFromName(name + suffix)), name };
      const late = new Promise((_, reject) => setTimeout(() => reject(new Error("took too long")), PATIENCE_MS));
      seen[name] = await attempt(() => Promise.race([probe(t), late]));
    };
    const all = [];
    for (const [group, probes] of Object.entries({ ids, rpc, fetches, life })) {
      for (const [name, probe] of Object.entries(probes.default)) {
        if (!wanted || wanted === group + "/" + name) all.push(run(group + "/" + name, probe));
      }
    }
    await Promise.all(all);
    return Response.json(seen);
  },
};
