import AxeBuilder from "@axe-core/playwright";
import type { Page } from "@playwright/test";
import { allPages, open } from "../pages";
import { expect, test } from "../world";

/** Serious and critical findings; the rest is advice. */
async function findings(page: Page): Promise<string[]> {
  const result = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]).analyze();
  return result.violations
    .filter((v) => v.impact === "serious" || v.impact === "critical")
    .flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.target.join(" ")}: ${n.failureSummary ?? ""}`));
}

// Each layout in one of the two colour schemes: every page in both at both widths would take twice as long.
for (const { width, colorScheme } of [{ width: 1280, colorScheme: "light" }, { width: 390, colorScheme: "dark" }] as const) {
  test(`every page is accessible and has room, ${colorScheme} at ${width} pixels`, async ({ signedIn: page }) => {
    test.setTimeout(900_000);
    await page.setViewportSize({ width, height: 800 });
    await page.emulateMedia({ colorScheme });
    for (const shown of await allPages()) {
      await test.step(shown.name, async () => {
        await open(page, shown);
        expect.soft(await findings(page), shown.name).toEqual([]);
        const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        expect.soft(over, `${shown.name} scrolls sideways`).toBeLessThanOrEqual(0);
        const cut = await page.locator(".badge, .facts dd").evaluateAll((all) => all.filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.textContent));
        expect.soft(cut, `${shown.name} has texts that stand out of their boxes`).toEqual([]);
      });
    }
  });
}

test("the login page is accessible", async ({ page }) => {
  await page.goto("/login");
  await expect(page.getByLabel("API token")).toBeVisible();
  expect(await findings(page)).toEqual([]);
});
