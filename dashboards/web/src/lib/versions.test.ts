import { expect, test } from "vitest";
import { messageOf, namer, tagger } from "./versions";

test("a version is called by its tag, with the short id where that is not its alone", () => {
  const [a, b, c, d] = ["1a2b3c4d-0000-4000-8000-000000000001", "5e6f7a8b-0000-4000-8000-000000000002", "9c0d1e2f-0000-4000-8000-000000000003", "0a1b2c3d-0000-4000-8000-000000000004"] as const;
  const tags = new Map([[a, "prod"], [b, "prod"], [c, "v3"], [d, undefined]]);
  const unlisted = "4f5a6b7c-0000-4000-8000-000000000005";
  expect([a, b, c, d, unlisted].map(namer(tags))).toEqual(["prod (1a2b3c4d)", "prod (5e6f7a8b)", "v3", "0a1b2c3d", "4f5a6b7c"]);
  expect([c, d].map(namer(tags, true)), "others may have any tag").toEqual(["v3 (9c0d1e2f)", "0a1b2c3d"]);
  expect(namer()(a)).toBe("1a2b3c4d");
});

test("a sentence names versions by their tags, with the short id", () => {
  const told = tagger(new Map([["1a2b3c4d-0000-4000-8000-000000000001", "v2"], ["5e6f7a8b-0000-4000-8000-000000000002", undefined]]));
  const f = (text: string, want: string) => expect(told(text)).toBe(want);
  f("rolled back 1a2b3c4d: 412 failures", "rolled back v2 (1a2b3c4d): 412 failures");
  f("version 1a2b3c4d-0000-4000-8000-000000000001 of script \"shop\" has other secrets", "version v2 (1a2b3c4d) of script \"shop\" has other secrets");
  f("5e6f7a8b passed its limit", "5e6f7a8b passed its limit"); // it has no tag
  f("v2 (1a2b3c4d) gets all traffic", "v2 (1a2b3c4d) gets all traffic");
  f("1a2b3c4d-0000-4000-8000-000000000009 is another one", "1a2b3c4d-0000-4000-8000-000000000009 is another one");
  f("ray 1a2b3c4d5e6f7a8b", "ray 1a2b3c4d5e6f7a8b");
  f("no version", "no version");
});

test("what people wrote of a deployment stays as it is", () => {
  const told = tagger(new Map([["1a2b3c4d-0000-4000-8000-000000000001", "v2"]]));
  const f = (by: string, message: string | undefined, want: string) => expect(messageOf({ annotations: { "workers/triggered_by": by, ...(message === undefined ? {} : { "workers/message": message }) } }, told)).toBe(want);
  f("rollback", "rolled back 1a2b3c4d", "rolled back v2 (1a2b3c4d)");
  f("deployment", "merge of 1a2b3c4d", "merge of 1a2b3c4d"); // a commit of theirs
  f("deployment", undefined, "");
});
