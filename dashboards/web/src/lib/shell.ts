/** A word of a POSIX shell, in which nothing means anything. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
