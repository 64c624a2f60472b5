// Storage, alarms, and how objects start and end.
import { attempt, ended, thrown } from "./describe.js";

// What goes on after the answer is waited for.
async function loaded(stub, key) {
  for (let i = 0; i < 2000; i++) {
    const got = await stub().load(key);
    if (got) return got;
    await new Promise((done) => setTimeout(done, 5));
  }
  return "never";
}

export default {
  async storage({ stub }) { const out = {}; for (const which of ["async", "sql", "kv", "context"]) out[which] = await attempt(() => stub(" " + which).storageOf(which)); return out; },
  async gates({ stub }) {
    const s = stub();
    return [(await Promise.all(Array.from({ length: 10 }, () => s.increment(3)))).length, await s.stored()];
  },
  async gatesAcrossStubs({ stub }) { await Promise.all(Array.from({ length: 10 }, () => stub().increment(2))); return stub().stored(); },
  async noGate({ stub }) { const s = stub(); return (await Promise.all([s.incrementSlowly(), s.incrementSlowly()])).length; },
  async blocking({ stub }) { return [await attempt(() => stub().block()), await attempt(() => stub().classes().then((c) => c.started))]; },
  async blockThrows({ stub }) { const s = stub(); await s.count(); return [await ended(() => s.blockAndThrow()), await attempt(() => stub().count())]; },
  async background({ stub }) { return [await stub().background(), await loaded(stub, "background")]; },
  async abort({ stub }) {
    const s = stub();
    await s.count();
    return [await ended(() => s.abort("on purpose")), await attempt(() => stub().count()), await attempt(() => stub().load("before"))];
  },
  async abortWithoutReason({ stub }) { await stub().count(); return [await ended(() => stub().abort()), await attempt(() => stub().count())]; },
  async abortAfterSync({ stub }) { await stub().count(); return [await ended(() => stub().abortAfterSync("reason")), await attempt(() => stub().keptAfterAbort())]; },
  async abortOthers({ stub }) {
    const s = stub();
    await s.count();
    const waiting = ended(() => s.callBack(() => new Promise((done) => setTimeout(done, 200))));
    await new Promise((done) => setTimeout(done, 10));
    return [await ended(() => stub().abort("others too")), await waiting];
  },
  async constructorFails({ env, name }) {
    const f = (n) => env.FAILS.getByName(name + n);
    const s = f("");
    return [await ended(() => s.hello()), await ended(() => s.hello()), await ended(() => f("").hello()), await ended(() => f("").fetch("http://x/")), await attempt(() => f(" fine").hello()), await attempt(async () => (await f(" fine").fetch("http://x/")).text())];
  },
  // What else an error of a reset says.
  async resetErrors({ stub, env, name }) {
    const member = async (f) => { const e = await thrown(f); return [e.remote, e.durableObjectReset, e.retryable, e.overloaded]; };
    return [await member(() => stub().abort("gone")), await member(() => stub().fetch("http://x/abort")), await member(() => env.FAILS.getByName(name).hello()), await member(() => env.FAILS.getByName(name).fetch("http://x/"))];
  },
  async brokenStub({ stub }) {
    const s = stub();
    const sub = await s.target(1);
    await ended(() => stub().abort("gone"));
    return [await attempt(() => sub.value()), await attempt(() => s.echo(1)), await attempt(() => s.fetch("http://x/hello").then((r) => r.status))];
  },

  alarms: ({ stub }) => stub().alarms(),
  async alarm({ stub }) { return [await stub().setAlarm(5), await stub().rang(1)]; },
  async alarmInThePast({ stub }) { return [await stub().setAlarm(-1000), await stub().rang(1)]; },
  async alarmAgain({ stub }) { return [await stub().setAlarm(1, "again"), await stub().rang(3)]; },
  async alarmThrows({ stub }) { return [await stub().setAlarm(1, "throw"), await stub().rang(2)]; },
  async alarmCallsAnother({ stub }) { return [await stub().setAlarm(1, "stub"), await stub().rang(1), await loaded(() => stub(" helper"), "by")]; },
};
