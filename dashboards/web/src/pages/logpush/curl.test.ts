// @ts-expect-error The types of Node are not among the dashboard's.
import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { quote } from "../../lib/shell";
import { curl } from "./curl";

const shell = (command: string): string => execFileSync("sh", ["-c", command], { encoding: "utf8" });

const odd = ["", "it's", `"quoted"`, "$HOME ${X} $(date) `date`", "back\\slash\\n", "two\nlines\n", "!history", "'''", "* ? [a] ~ # ; & | < >", "üñ€"];

test("a shell reads back what was quoted", () => {
  for (const text of odd) expect(shell(`printf %s ${quote(text)}`)).toBe(text);
});

test("a shell runs the command with the very body and the caller's token", () => {
  const body = { destination_conf: odd.join("|"), output_options: { batch_prefix: "it's\n" } };
  // A function stands in for curl and writes its arguments, a zero byte after each.
  const written = shell(`TOKEN=t0k; curl() { printf '%s\\0' "$@"; }\n${curl("POST", "https://api.example.com/jobs?a=b&c='d'", body)}`).split("\0");
  expect(written.slice(0, -1)).toEqual([
    "-X", "POST", "https://api.example.com/jobs?a=b&c='d'", "-H", "Authorization: Bearer t0k", "-H", "Content-Type: application/json", "--data-raw", JSON.stringify(body, null, 2),
  ]);
  expect(JSON.parse(written[8]!)).toEqual(body);
});
