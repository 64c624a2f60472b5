import type { Locator, Page } from "@playwright/test";
import { account, api, expect, test } from "../world";

const rollback = (script: string): string => `/${account}/workers/${script}/rollback`;
const policyOf = (script: string): string => `/client/v4/accounts/${account}/workers/scripts/${script}/rollback-policy`;

const form = (page: Page, whose: string): Locator => page.getByRole("form", { name: `Policy of ${whose}` });
const words = (page: Page): Locator => page.getByRole("region", { name: "In words" });

async function canvasOf(chart: Locator): Promise<void> {
  await expect(chart.locator("canvas")).toBeVisible();
}

async function confirm(page: Page, button: string): Promise<void> {
  await page.getByRole("dialog").getByRole("button", { name: button }).click();
  await expect(page.getByRole("dialog")).toBeHidden();
}

test("a policy is written, says what it does, and keeps who changed what", async ({ signedIn: page }) => {
  await page.goto(rollback("shop"));
  await expect(page.getByRole("heading", { name: "Nothing watches shop" })).toBeVisible();
  await page.getByRole("link", { name: "Write a policy" }).click();
  await page.getByRole("radio", { name: "Only record the decision and tell people" }).check();
  await page.getByLabel("Failure rate (% of requests)").fill("much");
  await page.getByRole("button", { name: "Save as its own policy" }).click();
  await expect(page.getByRole("alert")).toContainText("Some fields are no numbers");
  await expect(page.getByLabel("Failure rate (% of requests)")).toBeFocused();
  await page.getByLabel("Failure rate (% of requests)").fill("2");
  await expect(words(page)).toContainText("2\u00a0%");
  await page.getByRole("button", { name: "Save as its own policy" }).click();
  await expect(page.getByText("shop has a policy of its own, revision 1")).toBeVisible();

  // Somebody else is quicker: nothing of either is lost.
  await page.getByLabel("Failure rate (% of requests)").fill("0.5");
  const held = await api<object>("GET", policyOf("shop"));
  await api("PUT", policyOf("shop"), { ...held, max_failure_rate: 0.04 });
  await page.getByRole("button", { name: "Save the policy" }).click();
  await expect(page.getByText("saved revision 2")).toBeVisible();
  await page.getByRole("button", { name: /^Keep mine/ }).click();
  await page.getByRole("button", { name: "Save the policy" }).click();
  await expect(page.getByText("shop has a policy of its own, revision 3")).toBeVisible();
  expect(await api("GET", policyOf("shop"))).toMatchObject({ max_failure_rate: 0.005, action: "notify" });

  const revisions = page.getByRole("region", { name: "Revisions" });
  await expect(revisions.getByRole("listitem").filter({ hasText: /^Revision/ })).toHaveCount(3);
  const newest = revisions.getByRole("group").first();
  await newest.getByText("Revision 3").click();
  await expect(newest).toContainText("Holds");
  await expect(newest).toContainText("admin");
  await expect(newest.getByRole("deletion")).toContainText("4\u00a0%");
  await expect(newest.getByRole("insertion")).toContainText("0.5\u00a0%");

  await revisions.getByText("Revision 1", { exact: true }).click();
  await page.getByRole("button", { name: "Use revision 1 again" }).click();
  await expect(page.getByLabel("Failure rate (% of requests)")).toHaveValue("2");
  await page.getByRole("button", { name: "Discard changes" }).click();
  await expect(page.getByLabel("Failure rate (% of requests)")).toHaveValue("0.5");
});

test("evidence passes its threshold before the eyes of who watches", async ({ signedIn: page }) => {
  // v2 fails five hundred times as often as that; nothing moves, because the policy only tells.
  await api("PUT", policyOf("shop"), { enabled: true, action: "notify", max_failure_rate: 0.0001, min_requests: 10 });
  await page.goto(rollback("shop"));
  const trial = page.getByRole("region", { name: /^v2.*on trial against.*v1/ });
  await expect(trial.getByRole("status")).toHaveText("Fails", { timeout: 90_000 }); // three failures, by the traffic of a busy machine
  await expect(trial.getByText("The policy only tells of it: the version stays until a person acts.")).toBeVisible();
  await expect(trial.getByRole("row", { name: /failure rate at most 0.01/ })).toContainText("of 1,000 needed");
  const chart = trial.getByRole("slider", { name: /^Evidence against v2, by limit/ });
  await canvasOf(chart);
  await chart.focus();
  await page.keyboard.press("End");
  await expect(chart).toHaveAttribute("aria-valuetext", /failure rate: (over )?[\d,.]+/);
  const compare = trial.getByRole("link", { name: "Compare both versions" });
  await expect(compare).toHaveAttribute("href", /baseline=[0-9a-f-]{36}&candidate=[0-9a-f-]{36}$/);

  // What it told of is a decision, and so is the first thing that the page says.
  await page.getByRole("status").getByRole("link", { name: /v2|failure/ }).first().click();
  await expect(page.locator(".panel .badge", { hasText: "Fails, nothing moved" })).toBeVisible();
  await expect(page.getByText(/^Traffic stayed as deployment/)).toBeVisible();
});

test("a ramp is held, resumed, moved on and ended", async ({ signedIn: page }) => {
  await page.goto(rollback("search"));
  const ramp = page.getByRole("region", { name: /^Ramp of v2/ });
  const now = ramp.getByRole("listitem").and(page.locator("[aria-current=step]"));
  await expect(now).toContainText("10 %");
  await expect(ramp.getByText(/It stays at 10 % for .* more; then the step to 50 % is due/)).toBeVisible();

  await ramp.getByRole("button", { name: "Hold" }).click();
  await expect(page.getByRole("dialog")).toContainText("It is still watched, and still rolled back if it fails.");
  await page.keyboard.press("Escape"); // nobody was asked in earnest
  await expect(ramp.getByRole("heading")).toContainText("Running");
  await ramp.getByRole("button", { name: "Hold" }).click();
  await confirm(page, "Hold the ramp");
  await expect(ramp.getByRole("heading")).toContainText("Held");
  await expect(ramp.getByText(/held it/)).toBeVisible();

  await ramp.getByRole("button", { name: "Resume" }).click();
  await confirm(page, "Resume the ramp");
  await expect(ramp.getByRole("heading")).toContainText("Running");

  await ramp.getByRole("button", { name: "Next step now" }).click();
  await expect(page.getByRole("dialog")).toContainText("v2 gets 50 % of the requests instead of 10 %, and v1 keeps 50 %.");
  await confirm(page, "Deploy 50 % now");
  await expect(now).toContainText("50 %");
  const [current] = (await api<{ deployments: { versions: { percentage: number }[] }[] }>("GET", `/client/v4/accounts/${account}/workers/scripts/search/deployments`)).deployments;
  expect(current!.versions.map((v) => v.percentage)).toEqual([50, 50]);

  await ramp.getByRole("button", { name: "End the ramp" }).click();
  await confirm(page, "End the ramp");
  await expect(ramp.getByRole("heading")).toContainText("Ended");
  await expect(ramp.getByRole("button")).toHaveCount(0);
  await expect(ramp.getByText("not reached")).toBeVisible();
});

test("a backtest is cancelled, and then says when a policy would have acted", async ({ signedIn: page }) => {
  test.slow();
  await page.goto(`${rollback("checkout")}?view=backtest`);
  await expect(page.getByText(/^checkout has a policy of its own/)).toBeVisible();
  const network = await page.context().newCDPSession(page);
  const latency = (milliseconds: number): Promise<unknown> =>
    network.send("Network.emulateNetworkConditions", { offline: false, latency: milliseconds, downloadThroughput: -1, uploadThroughput: -1 });
  await network.send("Network.enable");
  await latency(600_000); // the past of this platform is too short to wait for
  await page.getByRole("button", { name: "Run the backtest" }).click();
  await expect(page.getByRole("progressbar", { name: "Replayed" })).toBeVisible();
  await page.getByRole("button", { name: "Cancel" }).click();
  await expect(page.getByText("Cancelled: nothing was changed.")).toBeVisible();
  await latency(0);

  const result = page.getByRole("region", { name: "Result of the backtest" });
  await expect(async () => { // the last two minutes, in which events may still come, are not replayed
    await page.getByRole("button", { name: "Run the backtest" }).click();
    await expect(result).toContainText(/it would have acted on 1 of 1 trial, and avoided/, { timeout: 5_000 });
  }).toPass({ timeout: 180_000 });
  await expect(result.getByText("Would have acted", { exact: true })).toBeVisible();
  await expect(result.getByText(/^It would have acted .* because of the failures against the baseline\. After/)).toBeVisible();
  await canvasOf(result.getByRole("slider", { name: /^Evidence against v2 in the backtest/ }));

  // Another policy on the same past: one that no version can break.
  await page.getByRole("link", { name: "Policy", exact: true }).click();
  await page.getByLabel("Failure rate (× the baseline’s)").fill("");
  await page.getByLabel("p99 wall time (ms)").fill("60000");
  await page.getByRole("link", { name: /^Backtest/ }).click();
  await page.getByRole("combobox", { name: "Policy" }).selectOption("the one in the fields, which is not saved");
  await page.getByRole("button", { name: "Run the backtest" }).click();
  await expect(result).toContainText(/it would have acted on 0 of 1 trial/);
});

test("a decision is explained by its numbers", async ({ signedIn: page }) => {
  await page.goto(`${rollback("checkout")}?view=decisions`);
  await page.getByRole("row", { name: /Rolled back/ }).getByRole("link").click();
  const decision = page.locator("section.panel");
  await expect(decision.getByText("Limit that decided")).toBeVisible();
  await expect(decision.getByText(/^v2: [\d,]+ of [\d,]+ failed .* of the baseline [\d,]+ of [\d,]+ failed/)).toBeVisible();
  await expect(decision.getByText(/^Deployment .* replaced/)).toBeVisible();
  await canvasOf(decision.getByRole("slider", { name: /^Evidence against v2 until the decision/ }));
  await expect(decision.getByRole("heading", { name: "Who was told" })).toBeVisible();
  const address = page.url();
  await page.getByRole("link", { name: "its own, revision 1" }).click();
  await expect(page.getByRole("region", { name: "Revisions" }).getByRole("group").first()).toHaveAttribute("open");
  await page.goto(address);
  await page.getByRole("link", { name: "Failed requests of the version" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "Live" })).toBeVisible();
  await expect(page.getByRole("region", { name: "Stored events, newest first" }).getByRole("row").nth(1)).toBeVisible();
});

test("the account's default policy holds for scripts without one, until it is deleted", async ({ signedIn: page }) => {
  await page.goto(`/${account}/rollback`);
  await expect(page.getByText("There is none yet")).toBeVisible();
  await page.getByRole("radio", { name: "Only record the decision and tell people" }).check();
  await page.getByRole("button", { name: "Save as its own policy" }).click();
  await expect(page.getByText("Every script of this account that has no policy of its own follows this one")).toBeVisible();

  await page.goto(`${rollback("catalog")}?view=policy`);
  await expect(page.getByText("catalog follows the account’s default policy, revision 1.")).toBeVisible();
  await expect(page.getByRole("region", { name: "What the account’s default policy says" })).toContainText("At most 1 false alarm in 1,000 deployments");
  await page.getByRole("button", { name: "Give catalog a policy of its own" }).click();
  await expect(form(page, "catalog")).toBeVisible();
  await page.getByRole("link", { name: "the account’s default policy" }).click();

  await page.getByRole("button", { name: "Delete …" }).click();
  await expect(page.getByRole("dialog")).toContainText("scripts without a policy of their own are not watched");
  await confirm(page, "Delete the policy");
  await expect(page.getByText("There is none yet")).toBeVisible();
  await page.goto(rollback("catalog"));
  await expect(page.getByRole("heading", { name: "Nothing watches catalog" })).toBeVisible();
});
