// The whole story by clicks alone: a script is made, its code edited and saved, a policy set,
// a share of the traffic given to the new version, which fails and is rolled back by itself,
// and a Logpush job delivers what happened.
import type { Page } from "@playwright/test";
import { account, collector, delivered, expect, test } from "../world";

const script = "storefront";
const home = `/${account}/workers/${script}`;

const failing = `export default {
  async fetch(request, env, ctx) {
    if (Math.random() < 0.5) throw new RangeError("the basket is gone");
    return new Response("second\\n");
  },
};
`;

/** Replaces all of the code in the editor. */
async function write(page: Page, code: string): Promise<void> {
  const editor = page.getByRole("tabpanel").getByRole("textbox");
  await editor.click();
  await page.keyboard.press("ControlOrMeta+a");
  await page.keyboard.press("Delete"); // or Chromium would keep the old text's looks by inline styles, which the policy blocks
  await page.keyboard.insertText(code);
}

async function tab(page: Page, name: string): Promise<void> {
  await page.getByRole("navigation", { name: `Pages of ${script}` }).getByRole("link", { name, exact: true }).click();
}

test("a bad release, from its first line to its rollback and its log lines", async ({ signedIn: page }) => {
  test.setTimeout(600_000);

  await test.step("create", async () => {
    await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Workers" }).click();
    await page.getByRole("link", { name: /new script/i }).first().click();
    await page.getByRole("radio", { name: /^Hello World/ }).check();
    await page.getByLabel("Name of the script").fill(script);
    await page.getByRole("button", { name: "Make and deploy at 100 %" }).click();
    await expect(page.getByRole("heading", { level: 1, name: script })).toBeVisible();
  });

  await test.step("code that does not run is refused with its place", async () => {
    await tab(page, "Code");
    await write(page, "export default {\n  fetch( {\n};\n");
    await page.getByRole("button", { name: "Save as a new version" }).click();
    const alert = page.getByRole("alert").filter({ hasText: "does not run" });
    await expect(alert).toBeVisible();
    await expect(alert.getByRole("button", { name: /line \d+/ }).first()).toBeVisible();
  });

  await test.step("edit and save, without deploying", async () => {
    await write(page, failing);
    await page.getByLabel("Tag").fill("v2");
    await page.getByRole("textbox", { name: "Message" }).fill("baskets in memory");
    await page.getByRole("button", { name: "Save as a new version" }).click();
    await expect(page.getByText("It gets no traffic yet.")).toBeVisible();
  });

  await test.step("a policy watches", async () => {
    await tab(page, "Rollback");
    await page.getByRole("link", { name: "Policy", exact: true }).click();
    await page.getByLabel("This policy is switched on").check();
    await page.getByRole("button", { name: /^Save (the policy|as its own policy)$/ }).click();
    await expect(page.getByText(/storefront has a policy of its own/)).toBeVisible();
  });

  await test.step("split", async () => {
    await tab(page, "Versions");
    await page.getByRole("link", { name: /^Promote v2/ }).click();
    await page.getByLabel("Exact percentage").fill("20");
    await page.getByRole("textbox", { name: "Message" }).fill("a fifth to begin with");
    await page.getByRole("button", { name: "Deploy this split" }).click();
    await tab(page, "Deployments");
    await expect(page.getByText("a fifth to begin with").first()).toBeVisible();
  });

  await test.step("watch: both versions are on one chart", async () => {
    await tab(page, "Compare");
    await expect(page.getByRole("slider", { name: /^Requests per second.*v2.*v1/s })).toBeVisible({ timeout: 120_000 });
  });

  await test.step("the rollback is seen, with its reason", async () => {
    await tab(page, "Rollback");
    await page.getByRole("link", { name: "Decisions", exact: true }).click();
    await expect(page.getByText(/rolled back/i).first()).toBeVisible({ timeout: 180_000 });
    await tab(page, "Deployments");
    await expect(page.getByRole("main").getByText(/rolled back/i).first()).toBeVisible();
  });

  await test.step("a Logpush job delivers", async () => {
    await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Logpush" }).click();
    await page.getByRole("link", { name: /create|new/i }).first().click();
    await page.getByLabel("Name", { exact: true }).fill("storefront-events");
    await page.getByLabel("Kind of destination").selectOption("http");
    await page.getByLabel("Host", { exact: true }).fill(new URL(collector).host);
    await page.getByLabel("Path", { exact: true }).fill("storefront");
    await page.getByRole("button", { name: "Test the destination" }).click();
    await expect(page.getByText("The destination took the test upload.")).toBeVisible();
    await page.getByRole("button", { name: "Create the job" }).click();
    await expect(page.getByRole("heading", { level: 1, name: /storefront-events/ })).toBeVisible();
    await expect.poll(() => delivered("/storefront"), { timeout: 120_000 }).toBeGreaterThan(0);
    await expect(page.getByRole("region", { name: "Now" })).toContainText(/Records sent in 24 hours\s*[1-9]/, { timeout: 120_000 });
  });

  await test.step("all of it has an address", async () => {
    await page.goto(`${home}/rollback?view=decisions`);
    await expect(page.getByText(/rolled back/i).first()).toBeVisible();
  });
});
