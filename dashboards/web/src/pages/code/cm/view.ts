// Code that is only read, and code beside other code.
import { MergeView, unifiedMergeView } from "@codemirror/merge";
import { EditorView } from "@codemirror/view";
import type { Language } from "../modules";
import { reading, rootOf } from "./setup";

/** Shows a text in host until the returned function is called. */
export function showCode(host: HTMLElement, text: string, label: string, language: Language): () => void {
  const root = rootOf(host);
  const view = new EditorView({ doc: text, extensions: reading(text, label, language), root, parent: root });
  return () => view.destroy();
}

export interface Sides {
  before: string;
  after: string;
  /** What the two texts are, such as "index.js in v1". */
  beforeLabel: string;
  afterLabel: string;
  language: Language;
}

export interface Look {
  /** One column; side by side otherwise. */
  unified: boolean;
  /** With all that is the same; folded otherwise, which only a pointer can open. */
  whole: boolean;
}

const folded = { collapseUnchanged: { margin: 3, minSize: 4 } };
// Bounds what minified files cost, whose lines have thousands of differences.
const diffConfig = { scanLimit: 1000, timeout: 2000 };

/** Shows what changed between two texts. */
export function showDifferences(host: HTMLElement, sides: Sides, look: Look): () => void {
  const root = rootOf(host);
  const options = { gutter: true, diffConfig, ...(look.whole ? {} : folded) };
  const { before, after, beforeLabel, afterLabel, language } = sides;
  if (look.unified) {
    const changes = unifiedMergeView({ original: before, mergeControls: false, ...options });
    const view = new EditorView({ doc: after, extensions: [reading(after, `${afterLabel}, with what changed`, language), changes, theme], root, parent: root });
    return () => view.destroy();
  }
  const view = new MergeView({
    a: { doc: before, extensions: [reading(before, beforeLabel, language), theme] },
    b: { doc: after, extensions: [reading(after, afterLabel, language), theme] },
    root, parent: root, ...options,
  });
  return () => view.destroy();
}

const wash = (colour: string, percent: number): string => `color-mix(in srgb, var(--${colour}) ${percent}%, transparent)`;

const theme = EditorView.theme({
  "&.cm-merge-a .cm-changedLine, .cm-deletedChunk": { backgroundColor: "var(--bad-wash)" },
  "&.cm-merge-b .cm-changedLine, .cm-insertedLine": { backgroundColor: "var(--good-wash)" },
  "&.cm-merge-a .cm-changedText, .cm-deletedChunk .cm-deletedText": { background: wash("bad", 30), textDecoration: "none" },
  "&.cm-merge-b .cm-changedText": { background: wash("good", 30) },
  "&.cm-merge-a .cm-changedLineGutter, .cm-deletedLineGutter": { background: "var(--bad)" },
  "&.cm-merge-b .cm-changedLineGutter": { background: "var(--good)" },
  ".cm-deletedChunk": { paddingLeft: "6px" },
  ".cm-collapsedLines": { color: "var(--accent)", background: "var(--raised)", fontFamily: "var(--text)", padding: "0.2rem 0.75rem" },
  ".cm-collapsedLines::before, .cm-collapsedLines::after": { color: "var(--quiet)" },
});
