import { expect, test } from "vitest";
import { tagged } from "./versions";

test("a sentence names versions by their tags, with the short id", () => {
  const versions = [
    { id: "1a2b3c4d-0000-4000-8000-000000000001", tag: "v2" },
    { id: "5e6f7a8b-0000-4000-8000-000000000002", tag: undefined },
  ];
  const f = (text: string, want: string) => expect(tagged(text, versions)).toBe(want);
  f("rolled back 1a2b3c4d: 412 failures", "rolled back v2 (1a2b3c4d): 412 failures");
  f("version 1a2b3c4d-0000-4000-8000-000000000001 of script \"shop\" has other secrets", "version v2 (1a2b3c4d) of script \"shop\" has other secrets");
  f("5e6f7a8b passed its limit", "5e6f7a8b passed its limit"); // it has no tag
  f("v2 (1a2b3c4d) gets all traffic", "v2 (1a2b3c4d) gets all traffic");
  f("1a2b3c4d-0000-4000-8000-000000000009 is another one", "1a2b3c4d-0000-4000-8000-000000000009 is another one");
  f("ray 1a2b3c4d5e6f7a8b", "ray 1a2b3c4d5e6f7a8b");
  f("no version", "no version");
});
