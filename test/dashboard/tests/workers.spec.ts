// Scripts by clicks alone: made, promoted, rolled back, told of and deleted.
import { type Page } from "@playwright/test";
import { account, api, collector, expect, test } from "../world";

const workers = `/${account}/workers`;
const scripts = `/client/v4/accounts/${account}/workers/scripts`;

/** A name of its own for each run, so that a failed one leaves nothing in the way. */
function fresh(name: string): string {
  return `${name}-${Date.now().toString(36)}`;
}

async function makeOrigin(page: Page, script: string): Promise<void> {
  await page.goto(`/${account}/new-script?from=origin`);
  await page.getByLabel("URL of the service").fill(collector);
  await page.getByLabel("Name of the script").fill(script);
  await page.getByRole("button", { name: "Make and deploy at 100 %" }).click();
  await expect(page.getByRole("heading", { level: 1, name: script })).toBeVisible();
}

function upload(script: string, tag: string): Promise<{ id: string }> {
  return api("POST", `${scripts}/${script}/versions`, { metadata: { origin: { url: collector }, annotations: { "workers/tag": tag } } });
}

async function serving(script: string): Promise<{ version_id: string; percentage: number }[]> {
  const { deployments } = await api<{ deployments: { versions: { version_id: string; percentage: number }[] }[] }>("GET", `${scripts}/${script}/deployments`);
  return deployments[0]!.versions;
}

test("a script may have any name that the API takes, and its own page", async ({ signedIn: page }) => {
  await makeOrigin(page, "new"); // once the address of the form
  await page.goto(`${workers}/new`);
  await expect(page.getByRole("heading", { level: 1, name: "new", exact: true })).toBeVisible();
  await expect(page.getByRole("navigation", { name: "Pages of new" })).toBeVisible();
});

test("a script made from a template answers at the address that its page shows", async ({ signedIn: page }) => {
  const script = fresh("hello");
  await page.goto(workers);
  await page.getByRole("link", { name: "New script" }).click();
  await page.getByRole("button", { name: "Make and deploy at 100 %" }).click();
  await expect(page.getByText("A script needs a name.")).toBeVisible();
  await page.getByLabel("Name of the script").fill("Hello");
  await expect(page.getByText("use lower-case letters")).toBeVisible();
  await page.getByLabel("Name of the script").fill("shop");
  await page.getByRole("button", { name: "Make and deploy at 100 %" }).click();
  await expect(page.getByText("has a script “shop” already")).toBeVisible();
  await page.getByLabel("Name of the script").fill(script);
  await page.getByRole("button", { name: "Make and deploy at 100 %" }).click();
  await expect(page.getByRole("heading", { level: 1, name: script })).toBeVisible();
  const address = await page.getByRole("region", { name: "How to reach it" }).getByRole("link").first().getAttribute("href");
  const visitor = await page.context().newPage();
  await expect(async () => {
    await visitor.goto(address!);
    await expect(visitor.getByText(`Hello World from ${script}.dev.localhost, version v1`)).toBeVisible({ timeout: 2000 });
  }).toPass({ timeout: 60_000 });
  await visitor.close();
  await api("DELETE", `${scripts}/${script}`);
});

test("a version is promoted to the thousandth, finished and rolled back", async ({ signedIn: page }) => {
  const script = fresh("split");
  await makeOrigin(page, script);
  await expect(page.getByText("There is no other version to promote yet.")).toBeVisible();
  const v1 = (await serving(script))[0]!.version_id;
  const { id: v2 } = await upload(script, "v2");

  await page.goto(`${workers}/${script}?promote=${v2}`);
  const exact = page.getByLabel("Exact percentage");
  const deploy = page.getByRole("button", { name: "Deploy this split" });
  await exact.fill("12.3456");
  await expect(page.getByText("at most three decimals")).toBeVisible();
  await expect(deploy).toBeDisabled();
  await exact.fill("12.345");
  await exact.press("Tab");
  await expect(page).toHaveURL(/share=12\.345/);
  await expect(page.getByText("v1 gets 87.655 % of requests (100 % now) and v2 gets 12.345 % of requests (joins the deployment)")).toBeVisible();
  await page.getByRole("slider", { name: "Share of v2" }).press("ArrowRight");
  await expect(exact).toHaveValue("13");
  await exact.fill("12.345");
  await deploy.click();
  await expect(page.getByText("Deployed: 87.655 % v1, 12.345 % v2.")).toBeVisible();
  expect(await serving(script)).toEqual([{ version_id: v1, percentage: 87.655 }, { version_id: v2, percentage: 12.345 }]);

  await page.getByRole("button", { name: "Finish v2 at 100 %" }).click();
  const dialog = page.getByRole("dialog");
  await expect(dialog.getByText("v1, which has 87.655 % now, leaves the deployment")).toBeVisible();
  await dialog.getByRole("button", { name: "Finish at 100 %" }).click();
  await expect(page.getByText("Deployed: 100 % v2.")).toBeVisible();

  await page.getByRole("button", { name: "Roll back to v1" }).click();
  await expect(dialog.getByText("v1 gets 100 % of requests (joins the deployment) and v2, which has 100 % now, leaves the deployment")).toBeVisible();
  await dialog.getByLabel("Message").fill("v2 is too slow");
  await dialog.getByRole("button", { name: "Roll back" }).click();
  await expect(dialog).toBeHidden();
  expect(await serving(script)).toEqual([{ version_id: v1, percentage: 100 }]);
  await page.goto(`${workers}/${script}`);
  await expect(page.getByRole("combobox", { name: "Version", exact: true })).toHaveValue(v1); // and not the one that was just rolled back
  await expect(page.getByRole("button", { name: "Roll back to v2" })).toBeHidden();

  await page.getByRole("link", { name: "Deployments" }).click();
  const newest = page.getByRole("row").nth(1);
  await expect(newest).toContainText("Serving now");
  await expect(newest).toContainText("v2 is too slow");
  await expect(newest).toContainText("before: 100 % v2");
  await page.getByRole("button", { name: /^Deploy again: 87.655 % v1, 12.345 % v2/ }).click();
  await dialog.getByRole("button", { name: "Deploy it again" }).click();
  await expect(dialog).toBeHidden();
  expect(await serving(script)).toHaveLength(2);
  await api("DELETE", `${scripts}/${script}`);
});

test("who deploys over what somebody else deployed meanwhile is told, and nothing happens", async ({ signedIn: page }) => {
  const script = fresh("race");
  await makeOrigin(page, script);
  const v1 = (await serving(script))[0]!.version_id;
  const { id: v2 } = await upload(script, "v2");
  await page.goto(`${workers}/${script}?promote=${v2}&share=10`);
  let others = 0;
  await page.route("**/deployments?*", async (route) => {
    if (others++ === 0) await api("POST", `${scripts}/${script}/deployments`, { strategy: "percentage", versions: [{ version_id: v1, percentage: 99 }, { version_id: v2, percentage: 1 }] });
    await route.continue();
  });
  await page.getByRole("button", { name: "Deploy this split" }).click();
  await expect(page.getByText("Nothing was deployed.")).toBeVisible();
  await expect(page.getByText("read the sentence again")).toBeVisible();
  expect((await serving(script)).map((s) => s.percentage)).toEqual([99, 1]);
  await expect(page.getByText("v2 gets 10 % of requests (1 % now)")).toBeVisible();
  await page.getByRole("button", { name: "Deploy this split" }).click();
  await expect(page.getByText("Deployed: 90 % v1, 10 % v2.")).toBeVisible();
  await api("DELETE", `${scripts}/${script}`);
});

test("a script is deleted by its name, and found by a part of it", async ({ signedIn: page }) => {
  const script = fresh("gone");
  await makeOrigin(page, script);
  await page.getByRole("button", { name: `Delete ${script} …` }).click();
  const dialog = page.getByRole("dialog");
  const remove = dialog.getByRole("button", { name: `Delete ${script}` });
  await dialog.getByLabel("to confirm").fill("gone");
  await expect(remove).toBeDisabled();
  await dialog.getByLabel("to confirm").fill(script);
  await remove.click();
  await expect(page.getByRole("heading", { level: 1, name: "Workers" })).toBeVisible();
  await expect(page.getByRole("link", { name: script })).toHaveCount(0);

  await page.getByLabel("Name").fill("SHO");
  await expect(page).toHaveURL(/name=SHO/);
  await expect(page.getByRole("rowheader")).toHaveCount(1);
  await expect(page.getByRole("link", { name: "shop" })).toBeVisible();
  await page.getByLabel("Name").fill("nothing has this");
  await expect(page.getByText("No script has “nothing has this” in its name")).toBeVisible();
  await page.getByRole("link", { name: /^Show all/ }).click();
  await expect(page.getByRole("rowheader").nth(1)).toBeVisible();
});
