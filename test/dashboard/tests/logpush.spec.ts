import type { Page } from "@playwright/test";
import { account, api, collector, delivered, expect, test, token } from "../world";

const base = `/${account}/logpush`;

interface Job {
  id: number;
  name: string;
  enabled: boolean;
  destination_conf: string;
}

async function jobs(): Promise<Job[]> {
  return api<Job[]>("GET", `/client/v4/accounts/${account}/logpush/jobs`);
}

async function jobNamed(name: string): Promise<Job> {
  const job = (await jobs()).find((j) => j.name === name);
  if (!job) throw new Error(`there is no job ${name}`);
  return job;
}

/** Makes a job outside of the browser; it delivers to a path of the collector. */
async function makeJob(name: string, enabled: boolean): Promise<Job> {
  return api<Job>("POST", `/client/v4/accounts/${account}/logpush/jobs`, { name, enabled, dataset: "workers_trace_events", destination_conf: `${collector}/${name}` });
}

async function confirm(page: Page, action: string): Promise<void> {
  await page.getByRole("dialog").getByRole("button", { name: action, exact: true }).click();
}

test("a job is made by clicks, previewed, tested, and delivers what its filter keeps", async ({ signedIn: page }) => {
  await page.goto(base);
  await page.getByRole("link", { name: "Create a job" }).click();
  await page.getByLabel("Name", { exact: true }).fill("made-by-clicks");
  await page.getByLabel("Kind of destination").selectOption({ label: "HTTP receiver without TLS (http)" });
  await page.getByLabel("Host", { exact: true }).fill(new URL(collector).host);
  await page.getByLabel("Path", { exact: true }).fill("made-by-clicks");
  await page.getByLabel("Query of the URL").fill("key=s3cret'$HOME");
  await page.getByRole("button", { name: "Test the destination" }).click();
  await expect(page.getByText("The destination took the test upload.")).toBeVisible();

  await page.getByRole("button", { name: "Add a comparison" }).click();
  await page.getByLabel("Field or member").fill("ScriptName");
  await page.getByLabel("Operator").selectOption({ label: "is" });
  await page.getByLabel("Value", { exact: true }).fill("checkout");
  await page.getByLabel("Chosen ones, in an order of mine").check();
  await page.getByRole("button", { name: "None", exact: true }).click();
  for (const field of ["ScriptName", "Outcome"]) await page.getByRole("checkbox", { name: new RegExp(`^${field}`) }).check();

  await page.getByRole("button", { name: "Show the preview" }).click();
  await expect(page.getByLabel(/^Output of /).first()).toContainText(`{"ScriptName":"checkout","Outcome":`);

  await page.getByText("The same with curl").click();
  await expect(page.getByLabel("Command", { exact: true })).not.toContainText("s3cret");
  await page.getByLabel("Show credentials as typed").check();
  await expect(page.getByLabel("Command", { exact: true })).toContainText(`key=s3cret'\\''$HOME`);

  await page.getByRole("button", { name: "Create the job" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "made-by-clicks" })).toBeVisible();
  await expect(page.getByText("when ScriptName is checkout")).toBeVisible();
  expect((await jobNamed("made-by-clicks")).destination_conf).toBe(`${collector}/made-by-clicks?key=s3cret'$HOME`);
  await expect.poll(() => delivered("/made-by-clicks"), { timeout: 120_000 }).toBeGreaterThan(0);
});

test("what the API refuses stands at its field, and has the focus", async ({ signedIn: page }) => {
  await page.goto(`${base}/new`);
  await page.getByRole("button", { name: "Create the job" }).click();
  await expect(page.getByLabel("Kind of destination")).toBeFocused();
  await expect(page.getByLabel("Kind of destination")).toHaveAccessibleDescription(/Choose where/);

  await page.getByLabel("Kind of destination").selectOption({ label: "Folder of this machine" });
  await page.getByLabel("Folder", { exact: true }).fill("etc");
  await page.getByLabel("Sampling rate").fill("7");
  await page.getByRole("button", { name: "Create the job" }).click();
  await expect(page.getByLabel("Sampling rate")).toBeFocused();
  await expect(page.getByLabel("Sampling rate")).toHaveAccessibleDescription(/greater than 0 and at most 1/);

  await page.getByLabel("Sampling rate").fill("1");
  await page.getByRole("button", { name: "Create the job" }).click();
  await expect(page.getByLabel("Kind of destination")).toHaveAccessibleDescription(/--logpush-file-roots/);
});

test("a stored job is changed without its credentials being sent, and only as it was read", async ({ signedIn: page }) => {
  const job = await makeJob("to-be-changed", false);
  await page.goto(`${base}/${job.id}/edit`);
  await page.getByLabel("Name", { exact: true }).fill("changed");
  const [sent] = await Promise.all([
    page.waitForRequest((r) => r.method() === "PUT"),
    page.getByRole("button", { name: "Save the job" }).click(),
  ]);
  expect(sent.postDataJSON()).not.toHaveProperty("destination_conf");
  await expect(page.getByRole("heading", { level: 1, name: "changed" })).toBeVisible();

  await page.getByRole("link", { name: "Edit", exact: true }).click();
  await expect(page.getByLabel("Name", { exact: true })).toHaveValue("changed");
  await api("PUT", `/client/v4/accounts/${account}/logpush/jobs/${job.id}`, { name: "changed-by-another" });
  await page.getByRole("button", { name: "Save the job" }).click();
  await expect(page.getByRole("button", { name: /^Keep mine/ })).toBeVisible();
  expect((await jobs()).map((j) => j.name)).toContain("changed-by-another");
});

test("a job is paused, resumed and deleted, each after saying what that means", async ({ signedIn: page }) => {
  const job = await makeJob("short-lived", true);
  await page.goto(base);
  await page.getByRole("button", { name: "Pause short-lived" }).click();
  await expect(page.getByRole("dialog")).toContainText("sent by a replay only");
  await confirm(page, "Pause");
  await expect(page.getByRole("row", { name: /short-lived/ }).getByText("Paused")).toBeVisible();
  await page.getByRole("button", { name: "Resume short-lived" }).click();
  await confirm(page, "Resume");
  await expect(page.getByRole("button", { name: "Pause short-lived" })).toBeVisible();

  await page.goto(`${base}/${job.id}`);
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  await confirm(page, "Delete short-lived");
  await expect(page).toHaveURL(new RegExp(`${base}$`));
  expect((await jobs()).map((j) => j.name)).not.toContain("short-lived");
});

test("an ended session does not take an unsaved form, and its credentials are not kept", async ({ signedIn: page }) => {
  await page.goto(`${base}/new`);
  await page.getByLabel("Name", { exact: true }).fill("not-saved-yet");
  await page.getByLabel("Kind of destination").selectOption({ label: "HTTP receiver without TLS (http)" });
  await page.getByLabel("Host", { exact: true }).fill("h.example.com");
  await page.getByLabel("Query of the URL").fill("key=s3cret");
  await page.context().clearCookies();
  await page.getByRole("button", { name: "Test the destination" }).click();
  await page.getByLabel("API token").fill(token);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await expect(page.getByText("Credentials are not kept")).toBeVisible();
  await expect(page.getByLabel("Name", { exact: true })).toHaveValue("not-saved-yet");
  await expect(page.getByLabel("Host", { exact: true })).toHaveValue("h.example.com");
  await expect(page.getByLabel("Query of the URL")).toHaveValue("");
  await page.getByRole("button", { name: "Discard it, and begin with an empty form" }).click();
  await expect(page.getByLabel("Name", { exact: true })).toHaveValue("");
});

test("a field that is moved to the top keeps the focus", async ({ signedIn: page }) => {
  await page.goto(`${base}/new`);
  await page.getByLabel("Chosen ones, in an order of mine").check();
  await page.getByRole("button", { name: "None", exact: true }).click();
  for (const field of ["ScriptName", "Outcome"]) await page.getByRole("checkbox", { name: new RegExp(`^${field}`) }).check();
  await page.getByRole("button", { name: "Move Outcome up" }).press("Enter");
  await expect(page.getByRole("button", { name: "Move Outcome up" })).toBeDisabled();
  await expect(page.getByRole("button", { name: "Move Outcome down" })).toBeFocused();
});

test("a job is not shown as well while its dead letters wait", async ({ signedIn: page }) => {
  await page.goto(base);
  const row = page.getByRole("row", { name: /picky/ });
  await expect(row.getByText("Delivering, with errors")).toBeVisible();
  await expect(row.getByText(/were refused/)).toBeVisible();
});

test("a job that is resumed sends what it missed", async ({ signedIn: page }) => {
  const job = await makeJob("missed-something", true);
  const health = (): Promise<{ complete_until: string | null }> => api("GET", `/client/v4/accounts/${account}/logpush/jobs/${job.id}/health`);
  await expect.poll(async () => (await health()).complete_until, { timeout: 60_000 }).not.toBeNull();
  await page.goto(`${base}/${job.id}`);
  await page.getByRole("button", { name: "Pause missed-something" }).click();
  await confirm(page, "Pause");
  await page.getByRole("button", { name: "Resume missed-something" }).click();
  await page.getByRole("checkbox", { name: /^Also start a replay from/ }).check();
  await confirm(page, "Resume");
  await expect(page.getByRole("dialog")).toHaveCount(0); // the replay is asked for after the job is on
  await expect(page.getByRole("button", { name: "Pause missed-something" })).toBeVisible();
  await page.goto(`${base}/${job.id}/replays`);
  await expect(page.getByText(/^Events from .* to where live delivery began/)).toBeVisible();
});

test("a dead letter is read and deleted, and the others are sent again", async ({ signedIn: page }) => {
  const { id } = await jobNamed("picky");
  await page.goto(`${base}/${id}`);
  await expect(page.getByRole("link", { name: "Look at them" })).toBeVisible();
  await page.getByRole("link", { name: "Look at them" }).click();
  await page.getByRole("button", { name: /^Show the content of letter/ }).first().click();
  await expect(page.getByLabel("Content of the letter")).toContainText(`"ScriptName":"shop"`);
  await page.getByRole("button", { name: "Close" }).click();

  const first = page.getByRole("button", { name: /^Delete letter/ }).first();
  const name = (await first.getAttribute("aria-label"))!;
  await first.click();
  await confirm(page, name);
  await expect(page.getByRole("button", { name })).toHaveCount(0);
  await page.getByRole("button", { name: "Deleted" }).click();
  await expect(page.getByRole("rowheader", { name: new RegExp(name.split(" ").at(-1)!) })).toBeVisible();

  await page.getByRole("button", { name: "Waiting" }).click();
  await page.getByRole("button", { name: "Send all again" }).click();
  await confirm(page, "Send all again");
  await expect(page.getByRole("dialog").getByRole("button", { name: "Close" })).toBeEnabled();
  await expect(page.getByRole("dialog")).toContainText(/\d+ taken, \d+ refused again/);
});

test("a replay shows its progress until it is done", async ({ signedIn: page }) => {
  const { id } = await jobNamed("everything");
  await page.goto(`${base}/${id}/replays`);
  await expect(page.getByText("what was delivered before comes twice")).toBeVisible();
  await page.getByLabel("Times").selectOption("UTC");
  const inUTC = await page.getByLabel("From (UTC)").inputValue();
  const begins = Date.parse(`${inUTC}Z`);
  await page.getByLabel("Times").selectOption("local");
  expect(await page.getByLabel(/^From/).evaluate((e: HTMLInputElement) => new Date(e.value).getTime())).toBe(begins);
  await page.getByRole("button", { name: "Start the replay" }).click();
  await expect(page.getByRole("heading", { name: /^Replay \d+ Done/ }).first()).toBeVisible({ timeout: 120_000 });
});

test("the account's alerts are set and ended", async ({ signedIn: page }) => {
  await page.goto(base);
  await page.getByRole("button", { name: "Name a webhook" }).click();
  await page.getByLabel("Address of the webhook").fill(`${collector}/alerts`);
  await page.getByLabel("Secret").fill("s3cret");
  await page.getByRole("button", { name: "Save the webhook" }).click();
  await expect(page.getByText("with a secret: once in 24 hours")).toBeVisible();
  await page.getByRole("button", { name: "End the alerts" }).click();
  await confirm(page, "End the alerts");
  await expect(page.getByText("Nobody is told when a job fails.")).toBeVisible();
});
