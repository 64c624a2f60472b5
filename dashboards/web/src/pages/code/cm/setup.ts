// What every view of code has in common. Colours are the page's custom properties, which
// reach into the shadow root, so that one theme follows light and dark.
import { HighlightStyle, bracketMatching, codeFolding, foldGutter, foldKeymap, indentOnInput, syntaxHighlighting } from "@codemirror/language";
import { javascript } from "@codemirror/lang-javascript";
import { json } from "@codemirror/lang-json";
import { python } from "@codemirror/lang-python";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { EditorState, type Extension } from "@codemirror/state";
import { EditorView, drawSelection, highlightSpecialChars, keymap, lineNumbers } from "@codemirror/view";
import { tags as t } from "@lezer/highlight";
import { lineEnd, type Language } from "../modules";

const highlight = HighlightStyle.define([
  { tag: [t.keyword, t.operatorKeyword, t.modifier, t.self, t.null, t.bool, t.atom], color: "var(--series-4)" },
  { tag: [t.string, t.special(t.string), t.regexp, t.escape], color: "var(--series-3)" },
  { tag: [t.number, t.literal], color: "var(--series-2)" },
  { tag: [t.function(t.variableName), t.function(t.propertyName), t.definition(t.function(t.variableName))], color: "var(--series-1)" },
  { tag: [t.typeName, t.className, t.namespace, t.tagName], color: "var(--series-6)" },
  { tag: [t.comment, t.meta], color: "var(--quiet)", fontStyle: "italic" },
  { tag: t.invalid, color: "var(--bad)" },
]);

const theme = EditorView.theme({
  "&": { color: "var(--ink)", backgroundColor: "var(--panel)", fontSize: "0.8125rem" },
  "&.cm-focused": { outline: "none" }, // the host has one, which the gutter does not cover
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.55" },
  ".cm-content": { caretColor: "var(--ink)" },
  ".cm-cursor, .cm-dropCursor": { borderLeftColor: "var(--ink)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { background: "color-mix(in srgb, var(--accent) 28%, transparent)" },
  ".cm-selectionMatch, .cm-searchMatch": { backgroundColor: "color-mix(in srgb, var(--warn) 26%, transparent)" },
  ".cm-searchMatch-selected": { backgroundColor: "color-mix(in srgb, var(--warn) 52%, transparent)" },
  "&.cm-focused .cm-matchingBracket": { backgroundColor: "color-mix(in srgb, var(--accent) 22%, transparent)" },
  "&.cm-focused .cm-nonmatchingBracket": { backgroundColor: "var(--bad-wash)" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "color-mix(in srgb, var(--raised) 60%, transparent)" },
  ".cm-gutters": { color: "var(--quiet)", backgroundColor: "var(--panel)", borderRight: "1px solid var(--line)" },
  ".cm-foldPlaceholder": { color: "var(--quiet)", backgroundColor: "var(--raised)", borderColor: "var(--line)" },
  ".cm-specialChar": { color: "var(--bad)" },
  ".cm-panels": { color: "var(--ink)", backgroundColor: "var(--raised)" },
  ".cm-panels.cm-panels-top": { borderBottom: "1px solid var(--line)" },
  ".cm-panels.cm-panels-bottom": { borderTop: "1px solid var(--line)" },
  ".cm-panel.cm-search": { fontFamily: "var(--text)", padding: "0.5rem" },
  ".cm-panel.cm-search label": { fontSize: "0.8125rem" },
  ".cm-panel.cm-search [name=close]": { color: "var(--ink)", fontSize: "1.25rem", padding: "0 0.375rem", cursor: "pointer" },
  ".cm-textfield": { color: "var(--ink)", backgroundColor: "var(--panel)", border: "1px solid var(--edge)", borderRadius: "0.25rem", padding: "0.2rem 0.4rem", fontSize: "0.8125rem" },
  ".cm-button": { color: "var(--ink)", backgroundColor: "var(--panel)", backgroundImage: "none", border: "1px solid var(--edge)", borderRadius: "0.25rem", padding: "0.2rem 0.5rem", fontSize: "0.8125rem" },
  ".cm-button:active": { backgroundImage: "none" },
  "button:focus-visible, input:focus-visible": { outline: "2px solid var(--accent)" },
  ".cm-tooltip": { color: "var(--ink)", backgroundColor: "var(--panel)", border: "1px solid var(--edge)" },
  ".cm-tooltip-autocomplete > ul > li[aria-selected]": { color: "var(--ink)", backgroundColor: "var(--accent-wash)" },
  // Lint draws its waves and marks with data: addresses, which the pages' policy does not allow.
  ".cm-lintRange-error": { backgroundImage: "none", textDecoration: "underline wavy var(--bad)", textDecorationSkipInk: "none" },
  ".cm-lintPoint-error:after": { borderBottomColor: "var(--bad)" },
  ".cm-diagnostic": { fontFamily: "var(--mono)", whiteSpace: "pre-wrap" },
  ".cm-diagnostic-error": { borderLeftColor: "var(--bad)" },
  ".cm-lint-marker": { width: "auto" },
  ".cm-lint-marker-error": { content: "none", color: "var(--bad)", fontWeight: "700" },
  ".cm-lint-marker-error::before": { content: '"✕"' },
  ".cm-highlightTab": { backgroundImage: "none" },
});

export function languageSupport(language: Language): Extension {
  switch (language) {
    case "javascript": return javascript();
    case "typescript": return javascript({ typescript: true });
    case "jsx": return javascript({ jsx: true });
    case "tsx": return javascript({ jsx: true, typescript: true });
    case "json": return json();
    case "python": return python();
    case "text": return [];
  }
}

/** Extensions of every view of a text whose lines end as in `text`. */
export function common(text: string): Extension[] {
  return [
    EditorState.lineSeparator.of(lineEnd(text)),
    lineNumbers(), codeFolding(), foldGutter({ openText: "⌄", closedText: "›" }), highlightSpecialChars(), drawSelection(), bracketMatching(), indentOnInput(),
    highlightSelectionMatches(), syntaxHighlighting(highlight), theme, keymap.of([...searchKeymap, ...foldKeymap]),
  ];
}

/** A text that is only read, yet takes the focus, so that the keyboard can scroll and search it. */
export function reading(text: string, label: string, language: Language): Extension[] {
  return [
    ...common(text), languageSupport(language), EditorState.readOnly.of(true), EditorView.editable.of(false),
    EditorView.contentAttributes.of({ tabindex: "0", "aria-label": label, "aria-readonly": "true" }),
  ];
}

/**
 * The shadow root of an element. In one CodeMirror makes style sheets by script; in a
 * document it writes <style>, which the pages' policy refuses.
 */
export function rootOf(host: HTMLElement): ShadowRoot {
  return host.shadowRoot ?? host.attachShadow({ mode: "open" });
}
