// The command that does what a button does, for those who want it in a script.
import { quote } from "../../lib/shell";

/** The token is a variable of whoever runs it. */
export function curl(method: "POST" | "PUT", url: string, body: unknown): string {
  return [
    `curl -X ${method} ${quote(url)}`,
    `-H "Authorization: Bearer $TOKEN"`,
    `-H 'Content-Type: application/json'`,
    `--data-raw ${quote(JSON.stringify(body, null, 2))}`,
  ].join(" \\\n  ");
}
