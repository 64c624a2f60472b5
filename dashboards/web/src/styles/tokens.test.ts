// @ts-expect-error There are no types of Node.js here, and vitest gives out no styles.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const css = readFileSync(new URL("./tokens.css", import.meta.url), "utf8") as string;
const tokens = new Map([...css.matchAll(/--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)/g)].map((m) => [m[1]!, [m[2]!, m[3]!] as const]));

/** Relative luminance, as WCAG defines it. */
function luminance(colour: string): number {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16) / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
}

function contrast(a: string, b: string): number {
  const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (light! + 0.05) / (dark! + 0.05);
}

test("colours are as far from what they stand on as readers need", () => {
  const f = (colours: string[], grounds: string[], least: number): void => {
    for (const colour of colours) for (const ground of grounds) for (const theme of [0, 1] as const) {
      expect(contrast(tokens.get(colour)![theme], tokens.get(ground)![theme]), `${["light", "dark"][theme]}: ${colour} on ${ground}`).toBeGreaterThanOrEqual(least);
    }
  };
  f(["ink", "quiet", "accent", "good", "warn", "bad"], ["paper", "panel", "raised"], 4.5);
  for (const tone of ["good", "warn", "bad", "accent"]) f([tone, "ink", "quiet"], [`${tone}-wash`], 4.5);
  f(["on-accent"], ["accent"], 4.5);
  f(["on-bad"], ["bad"], 4.5);
  f([1, 2, 3, 4, 5, 6, 7, 8].map((n) => `series-${n}`), ["paper", "panel"], 3);
  f(["edge"], ["paper", "panel", "raised"], 3);
});
