// What happened on a time line: deployments, decisions.

export interface Mark {
  /** Seconds since 1970. */
  at: number;
  text: string;
  tone?: "bad" | "accent";
  /** One character that tells kinds of marks apart without their colour. */
  glyph?: string;
}

export interface MarkGroup {
  at: number;
  texts: string[];
  tone: Mark["tone"];
  glyph: string;
}

/** CSS pixels from one flag's middle to the next: their width, which is the least that a finger hits, and some air. */
const flagSpace = 28;

/**
 * The marks within a range that is drawn over so many CSS pixels, those together that stand too close for a flag each.
 * A bad one gives its group its looks.
 */
export function groupMarks(marks: readonly Mark[], range: readonly [since: number, until: number], width: number): MarkGroup[] {
  const [since, until] = range;
  const groups: MarkGroup[] = [];
  for (const mark of marks.filter((m) => m.at >= since && m.at <= until).sort((a, b) => a.at - b.at)) {
    const last = groups.at(-1);
    const glyph = mark.glyph ?? "◆";
    if (!last || (mark.at - last.at) * width >= (until - since) * flagSpace) {
      groups.push({ at: mark.at, texts: [mark.text], tone: mark.tone, glyph });
      continue;
    }
    last.texts.push(mark.text);
    if (mark.tone === "bad" && last.tone !== "bad") Object.assign(last, { tone: mark.tone, glyph });
  }
  return groups;
}
