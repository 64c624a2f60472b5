import { account, api, expect, test } from "../world";

interface Version { id: string; number: number }

async function versions(script: string): Promise<[string, string]> {
  const { items } = await api<{ items: Version[] }>("GET", `/client/v4/accounts/${account}/workers/scripts/${script}/versions`);
  const [first, second] = items.toSorted((a, b) => a.number - b.number);
  return [first!.id, second!.id];
}

const parameters = (url: string): Record<string, string> => Object.fromEntries(new URL(url).searchParams);

test("two versions are compared in words, and what is new leads to its event and logs", async ({ signedIn: page }) => {
  const [v1, v2] = await versions("shop");
  await page.goto(`/${account}/workers/shop/compare`);
  await expect(page.locator(".chart canvas")).toHaveCount(7);
  // The page names what it chose, so that its address can be sent to somebody.
  await expect.poll(() => parameters(page.url())).toMatchObject({ baseline: v1, candidate: v2 });
  await expect(page.getByText(/Of [\d,]+ requests whose version was drawn, v2 failed/)).toBeVisible();
  await expect(page.getByRole("link", { name: "the evidence of a rollback policy" })).toBeVisible();
  await expect(page.getByRole("region", { name: "Totals by version" }).getByRole("row")).toHaveCount(3);

  await page.getByRole("button", { name: "Swap baseline and candidate" }).click();
  await expect.poll(() => parameters(page.url())).toMatchObject({ baseline: v2, candidate: v1 });
  await page.goBack();

  // The first exception of v1 may come after v2's: what is new then is nothing.
  const sample = page.getByRole("link", { name: /^Sample event of TypeError/ }).first();
  const nothing = page.getByText("v2 threw nothing in this time");
  await expect(sample.or(nothing)).toBeVisible();
});

test("what a new version threw is shown with its event, by an address", async ({ signedIn: page }) => {
  const [v1, v2] = await versions("checkout");
  await page.goto(`/${account}/workers/checkout/compare?baseline=${v1}&candidate=${v2}`);
  await expect(page.getByRole("button", { name: /rolled back|requests failed/i }).first()).toBeVisible(); // the flag of the rollback
  await page.goto(`/${account}/workers/checkout/live?failed=true&version=${v2}`);
  await page.getByRole("region", { name: "Stored events, newest first" }).getByRole("button").first().click();
  const dialog = page.getByRole("dialog");
  await expect(dialog.getByText("has no price")).toBeVisible();
  await expect(dialog.getByText(/at price/)).toBeVisible();
  await expect(dialog.getByText(/asked for item/)).toBeVisible();
  await expect(dialog.getByText("split: drawn by the percentages")).toBeVisible();
  expect(parameters(page.url())["ray"]).toMatch(/^[0-9a-f]{16}$/);
  await page.reload();
  await expect(dialog.getByText("has no price")).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(dialog).toBeHidden();
  expect(parameters(page.url())).toEqual({ failed: "true", version: v2 });
});

test("charts are zoomed by dragging and by keys, and go back to live", async ({ signedIn: page }) => {
  await page.goto(`/${account}/workers/shop/compare?last=300`);
  const chart = page.getByRole("slider", { name: /^Requests per second/ });
  await expect(chart.locator("canvas")).toBeVisible();
  const box = (await chart.boundingBox())!;
  await page.mouse.move(box.x + box.width * 0.4, box.y + 60);
  await expect(page.locator(".chart-tip:visible")).toHaveCount(7); // one cursor for all charts
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.7, box.y + 60, { steps: 5 });
  await page.mouse.up();
  await expect.poll(() => Object.keys(parameters(page.url()))).toEqual(expect.arrayContaining(["since", "until"]));
  const zoomed = parameters(page.url());
  expect(Date.parse(zoomed["until"]!) - Date.parse(zoomed["since"]!)).toBeLessThan(150_000);

  await page.getByRole("button", { name: "Back to live" }).click();
  await expect.poll(() => parameters(page.url())["since"]).toBeUndefined();

  await chart.focus();
  await page.keyboard.press("Home");
  await expect(chart).toHaveAttribute("aria-valuenow", "0");
  await page.keyboard.press("End"); // an hour is shown now, and traffic began in its last minutes
  await expect(chart).toHaveAttribute("aria-valuetext", /v1: [\d.]+/);
  for (let i = 0; i < 10; i++) await page.keyboard.press("Shift+ArrowLeft");
  await page.keyboard.press("Enter");
  await expect.poll(() => parameters(page.url())["since"]).toBeDefined();
});

test("a version is taken out of the charts, and the address says so", async ({ signedIn: page }) => {
  const [, v2] = await versions("shop");
  await page.goto(`/${account}/workers/shop/compare`);
  const toggle = page.getByRole("group", { name: "Versions that the charts show" }).getByRole("button", { name: /^v2/ });
  await toggle.click();
  await expect(toggle).toHaveAttribute("aria-pressed", "false");
  await expect.poll(() => parameters(page.url())["hidden"]).toBe(v2.slice(0, 8));
  await expect(page.getByRole("slider", { name: /^Failure rate\./ })).not.toHaveAttribute("aria-label", /v2/);
  await page.getByRole("button", { name: "Show table of Failure rate" }).click();
  await expect(page.getByRole("columnheader", { name: "v1", exact: true })).toBeVisible();
});

test("events come in by themselves, wait while paused, and are kept to a filter", async ({ signedIn: page }) => {
  await page.goto(`/${account}/workers/shop/live`);
  const live = page.getByRole("region", { name: "Events as they come, newest first" });
  await expect(live.getByRole("row").nth(3)).toBeVisible();
  await page.getByRole("button", { name: "Pause" }).click();
  await expect(page.getByText(/wait until you resume/)).toBeVisible();
  const newest = await live.getByRole("row").nth(1).textContent();
  await expect(page.getByText(/[2-9]\d* wait until you resume/)).toBeVisible();
  expect(await live.getByRole("row").nth(1).textContent()).toBe(newest);
  await page.getByRole("button", { name: "Resume" }).click();
  await expect(live.getByRole("row").nth(1)).not.toHaveText(newest!);

  const stored = page.getByRole("region", { name: "Stored events, newest first" });
  const more = page.getByRole("button", { name: "Load 50 older" });
  await expect(stored.getByRole("row")).toHaveCount(51);
  await more.click();
  await expect(stored.getByRole("row")).toHaveCount(101);

  await page.getByRole("searchbox", { name: "Text in the URL" }).fill("/items/7");
  await page.getByRole("button", { name: "Apply" }).click();
  await expect.poll(() => parameters(page.url())["text"]).toBe("/items/7");
  await expect(stored.getByRole("button", { name: "GET /items/7" }).first()).toBeVisible();
  await expect(stored.getByRole("button").filter({ hasNotText: "/items/7" })).toHaveCount(0);

  await page.getByRole("textbox", { name: "Status" }).fill("much");
  await expect(page.getByText("“much” is no status")).toBeVisible();
});

test.describe("in New York", () => {
  test.use({ timezoneId: "America/New_York" });

  test("times are those of the zone, and of UTC when it is chosen", async ({ signedIn: page }) => {
    // The hour that clocks skipped on this day began at 07:00 UTC.
    await page.goto(`/${account}/workers/shop/live?since=2026-03-08T06:30:00Z&until=2026-03-08T07:30:00Z`);
    await expect(page.getByText("2026-03-08 01:30:00 to 2026-03-08 03:30:00 America/New_York")).toBeVisible();
    await page.getByLabel("Times").selectOption("UTC");
    await expect(page.getByText("2026-03-08 06:30:00 to 2026-03-08 07:30:00 UTC")).toBeVisible();
  });
});
