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

for (const width of [1280, 390]) {
  test(`every page is accessible and has room, light and dark, at ${width} pixels`, async ({ signedIn: page }) => {
    test.setTimeout(900_000);
    await page.setViewportSize({ width, height: 800 });
    for (const shown of await allPages()) {
      await test.step(shown.name, async () => {
        await page.emulateMedia({ colorScheme: "light" });
        await open(page, shown);
        expect.soft(await findings(page), `${shown.name} in light`).toEqual([]);
        const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        expect.soft(over, `${shown.name} scrolls sideways`).toBeLessThanOrEqual(0);
        await page.emulateMedia({ colorScheme: "dark" });
        expect.soft(await findings(page), `${shown.name} in dark`).toEqual([]);
      });
    }
  });
}

test("the login page is accessible", async ({ page }) => {
  await page.goto("/login");
  await expect(page.getByLabel("API token")).toBeVisible();
  expect(await findings(page)).toEqual([]);
});
