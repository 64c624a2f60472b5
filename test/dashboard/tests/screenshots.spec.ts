// Pictures of every page for the documentation: `make screenshots`.
import { allPages, open } from "../pages";
import { test } from "../world";

const folder = "../../docs/screenshots";

test("pictures of every page @screenshots", async ({ signedIn: page }) => {
  test.setTimeout(600_000);
  await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
  for (const shown of (await allPages()).filter((p) => !p.unpictured)) {
    await test.step(shown.name, async () => {
      await open(page, shown);
      await page.screenshot({ path: `${folder}/${shown.name}.png` });
    });
  }
});

test("pictures in the dark and on a phone @screenshots", async ({ signedIn: page }) => {
  test.setTimeout(600_000);
  const few = (await allPages()).filter((p) => ["workers", "compare", "decision"].includes(p.name));
  for (const shown of few) {
    await page.emulateMedia({ colorScheme: "dark", reducedMotion: "reduce" });
    await page.setViewportSize({ width: 1280, height: 800 });
    await open(page, shown);
    await page.screenshot({ path: `${folder}/${shown.name}-dark.png` });
    await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
    await page.setViewportSize({ width: 390, height: 844 });
    await open(page, shown);
    await page.screenshot({ path: `${folder}/${shown.name}-phone.png` });
  }
});

test("a picture of the login page @screenshots", async ({ page }) => {
  await page.goto("/login");
  await page.getByLabel("API token").waitFor();
  await page.screenshot({ path: `${folder}/login.png` });
});
