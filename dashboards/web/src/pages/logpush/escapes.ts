// Delimiters and the like are often characters that nobody sees: in a form they are
// written as in JSON, \n for a line break.

/** What is typed for a text. */
export function showEscapes(text: string): string {
  return JSON.stringify(text).slice(1, -1).replaceAll(`\\"`, `"`);
}

/** The text of what was typed; a backslash that begins nothing known stays. */
export function readEscapes(typed: string): string {
  const known: Record<string, string> = { n: "\n", t: "\t", r: "\r", b: "\b", f: "\f", "\\": "\\" };
  return typed.replace(/\\(u[0-9a-fA-F]{4}|[ntrbf\\])/g, (_, code: string) => known[code] ?? String.fromCharCode(parseInt(code.slice(1), 16)));
}
