// What the runtime said of code that does not run, and where in the code that is.
// Positions count lines from 1, and UTF-16 units of a line from 0.
import { ApiError } from "../../api/client";

export interface Place {
  module: string;
  line: number;
  column: number;
}

export interface Diagnostic {
  /** The runtime's words, without places. */
  message: string;
  /** Where it happened first, then the callers; only places in the version's own modules. */
  places: Place[];
}

/** The code with which the API refuses a script that does not run. */
const codeBadScript = 10021;

interface Source {
  name: string;
  text: string | undefined;
}

/** The diagnostics of a refused upload; none for any other error. */
export function diagnosticsOf(error: unknown, sources: readonly Source[]): Diagnostic[] {
  if (!(error instanceof ApiError)) return [];
  return error.messages.filter((m) => m.code === codeBadScript).map((m) => parseDiagnostic(m.message, sources));
}

const frame = /^ {2}at (.+?):(\d+)(?::(\d+))?(?: in .*)?$/;
const importer = /^ {2}imported from "(.*)"$/;

/**
 * Reads a message of workerd: its text, and a line `  at module:line:column in function` for
 * each place. Lines that name no module of the version stay in the text: a script can throw
 * texts that look like places.
 */
export function parseDiagnostic(text: string, sources: readonly Source[]): Diagnostic {
  const places: Place[] = [];
  const said: string[] = [];
  for (const line of text.split("\n")) {
    const place = placeOf(line, text, sources);
    if (place) places.push(place);
    else said.push(line);
  }
  return { message: said.join("\n").trim(), places };
}

function placeOf(line: string, message: string, sources: readonly Source[]): Place | undefined {
  const at = frame.exec(line);
  if (at) return sources.some((s) => s.name === at[1]) ? { module: at[1]!, line: Number(at[2]), column: columnOf(at[3], message) } : undefined;
  const from = importer.exec(line)?.[1];
  return from === undefined ? undefined : importPlace(sources.find((s) => s.name === from), message);
}

/**
 * The runtime counts columns from 1 in what was thrown, but from 0 in what it could not even
 * read; there it leaves a 0 out.
 */
function columnOf(digits: string | undefined, message: string): number {
  if (digits === undefined) return 0;
  const unread = message.startsWith("Uncaught SyntaxError: ") && !message.includes("in JSON at position");
  return unread ? Number(digits) : Number(digits) - 1;
}

/** Where a module imports the one that there is not: the runtime does not say. */
function importPlace(source: Source | undefined, message: string): Place | undefined {
  const missing = /No such module "(.*)"/.exec(message)?.[1];
  if (source?.text === undefined || missing === undefined) return undefined;
  for (const [i, line] of source.text.split(/\r?\n/).entries()) {
    for (const quoted of line.matchAll(/(["'`])([^"'`]+)\1/g)) {
      if (quoted[2] === missing || resolve(quoted[2]!, source.name) === missing) return { module: source.name, line: i + 1, column: quoted.index };
    }
  }
  return undefined;
}

function resolve(specifier: string, importer: string): string {
  try {
    return decodeURIComponent(new URL(specifier, new URL(importer, "file:///")).pathname.slice(1));
  } catch {
    return specifier;
  }
}

/** The range of a place in the text of its module, as offsets: the word that begins there, or one unit. */
export function rangeOf(place: Place, text: string): { from: number; to: number } {
  const lines = text.split("\n");
  const line = Math.min(Math.max(place.line, 1), lines.length) - 1;
  const start = lines.slice(0, line).reduce((sum, l) => sum + l.length + 1, 0);
  const content = lines[line]!;
  const column = Math.min(Math.max(place.column, 0), content.length);
  const word = /^[\p{ID_Continue}$]+/u.exec(content.slice(column))?.[0].length ?? 1;
  // At the end of a line there is nothing to underline but what stands before.
  if (column === content.length) return { from: start + Math.max(0, column - 1), to: start + column };
  return { from: start + column, to: start + column + word };
}
