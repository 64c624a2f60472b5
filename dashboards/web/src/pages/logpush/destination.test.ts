import { expect, test } from "vitest";
import { buildConf, emptyDestination, kinds, kindOf, maskConf, missingOf, needsChallenge, parseConf, withoutCredentials, type Destination } from "./destination";

test.each(kinds.map((k) => [k.id, k] as const))("an example of %s goes through the form as it is, and uses every parameter", (_, kind) => {
  const d = parseConf(kind.example);
  expect(d?.kind).toBe(kind.id);
  expect(buildConf(d!)).toBe(kind.example);
  expect(missingOf(d!)).toEqual([]);
  // Credentials of Google are JSON, too long for an example; endpoint goes only with them.
  if (kind.id !== "gs" && kind.id !== "elastic") expect(Object.keys(d!.parameters).sort()).toEqual(kind.parameters.map((p) => p.name).sort());
});

test.each(kinds.map((k) => [k.id, k] as const))("whatever is typed into the fields of %s comes back", (_, kind) => {
  const odd = `a b+c&d=e?f#g%h/i'"$\`é{DATE}`;
  const d: Destination = { ...emptyDestination(kind), host: kind.host ? "h.example.com:1" : "", path: kind.path ? `x y/${odd}` : "" };
  if (kind.login) Object.assign(d, { user: "u:s@er", password: odd });
  for (const p of kind.parameters) d.parameters[p.name] = p.options?.[0] ?? odd;
  if (kind.headers) d.headers = [["X-A", odd], ["X-B", ""]];
  if (kind.open) d.open = [["env", odd]];
  if (kind.rest) d.rest = "sig=a%2Fb+c&k=~";
  const conf = buildConf(d);
  expect(parseConf(conf)).toEqual(d);
  expect(new URL(conf).protocol).toBe(`${kind.scheme}:`);
});

test("what the form would write in another way is left to be edited as it is", () => {
  for (const conf of [
    "", "nonsense", "ftp://host/", "s3://b/p?region=a&unknown=b", "s3://b/p?region=a&region=b", "https://h/p?a=%zz&header_X=%zz",
    "https://h/a%2Fb", "https://h/?header_X=a+b", "splunk://h/services/collector/raw?header_Authorization=Bearer%20t", "gs://b/p?credentials=plain", "https://h/p#f",
  ]) expect(parseConf(conf), conf).toBeUndefined();
});

test("parameters may come in any order", () => {
  const d = parseConf("s3://logs/p?secret-access-key=s&region=r&access-key-id=k")!;
  expect(d.parameters).toEqual({ region: "r", "access-key-id": "k", "secret-access-key": "s" });
});

test("a key of Google's is its Base64, and stands for the proof of ownership", () => {
  const d: Destination = { ...emptyDestination(kindOf("gs")), host: "logs" };
  expect(needsChallenge(d)).toBe(true);
  d.parameters["credentials"] = `{"type":"service_account","note":"ü"}`;
  expect(needsChallenge(d)).toBe(false);
  expect(buildConf(d)).toBe("gs://logs?credentials=base64:eyJ0eXBlIjoic2VydmljZV9hY2NvdW50Iiwibm90ZSI6IsO8In0%3D");
});

test("no credential is left in what is shown", () => {
  for (const kind of kinds) {
    const d: Destination = { ...emptyDestination(kind), host: "h", path: "p" };
    if (kind.path?.secret) d.path = "s3cret";
    if (kind.login) Object.assign(d, { user: "s3cret", password: "s3cret" });
    if (kind.headers) d.headers = [["X-Key", "s3cret"]];
    if (kind.rest?.secret) d.rest = "sig=s3cret";
    for (const p of kind.parameters) d.parameters[p.name] = p.secret ? "s3cret" : "plain";
    expect(maskConf(buildConf(d)), kind.id).not.toContain("s3cret");
  }
  expect(maskConf("s3://b/p?token=s3cret")).toBe("s3://***");
  expect(maskConf("s3://logs/x?region=r&access-key-id=k&secret-access-key=s")).toBe("s3://logs/x?region=r&access-key-id=***&secret-access-key=***");
});

test.each(kinds.map((k) => [k.id, k] as const))("what is kept of %s has no credentials", (_, kind) => {
  const d: Destination = { ...emptyDestination(kind), host: kind.host ? "h.example.com" : "", path: kind.path ? (kind.path.secret || kind.path.hidden ? "s3cret" : "logs") : "" };
  if (kind.login) Object.assign(d, { user: "s3cret", password: "s3cret" });
  for (const p of kind.parameters) d.parameters[p.name] = p.secret ? "s3cret" : (p.options?.[0] ?? "plain");
  if (kind.headers) d.headers = [["X-A", "s3cret"]];
  if (kind.open) d.open = [["env", "plain"]];
  if (kind.rest) d.rest = kind.rest.secret ? "sig=s3cret" : "a=plain";
  const conf = buildConf(d);
  expect(parseConf(conf)?.kind).toBe(kind.id);
  const kept = withoutCredentials(conf);
  expect(kept).not.toMatch(/s3cret|czNjcmV0/);
  expect(parseConf(kept)).toMatchObject({ kind: kind.id, host: d.host, open: d.open });
});

test("a destination that no form can hold is not kept", () => {
  expect(withoutCredentials("https://h/a%2Fb?header_Authorization=s3cret")).toBe("");
});
