import { account, api, dashboard, expect, test, token } from "../world";

test("a one-time link signs in, once, and leaves no secret behind", async ({ page, browser }) => {
  const { url } = await api<{ url: string }>("POST", "/session/links");
  expect(new URL(url).search).toBe("");
  const asked: string[] = [];
  page.on("request", (r) => asked.push(r.url()));
  await page.goto(url);
  await expect(page.getByRole("heading", { level: 1, name: "Workers" })).toBeVisible();
  const code = new URL(url).hash;
  expect(asked.filter((u) => u.includes(code.slice(6)))).toEqual([]);
  expect(page.url()).not.toContain(code);

  const cookies = await page.context().cookies();
  expect(cookies).toHaveLength(1);
  expect(cookies[0]).toMatchObject({ httpOnly: true, sameSite: "Strict", path: "/" });
  const stored = await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }));
  expect(stored).not.toContain(token);
  expect(stored).not.toContain(code.slice(6));

  const other = await browser.newPage();
  await other.goto(url);
  await expect(other.getByRole("alert")).toBeVisible();
  await expect(other).toHaveURL(/\/login/);
  await other.close();
});

test("a link asks before it replaces who is signed in", async ({ signedIn: page }) => {
  const { value } = await api<{ value: string }>("POST", `/client/v4/accounts/${account}/tokens`, { name: "link", scopes: ["scripts:read"] });
  const asked = await fetch(`${dashboard}/session/links`, { method: "POST", headers: { Authorization: `Bearer ${value}` } });
  const { url } = ((await asked.json()) as { result: { url: string } }).result;
  const signedInAs = async (): Promise<string> => ((await (await page.request.get("/session")).json()) as { result: { token: { name: string } } }).result.token.name;
  const before = await signedInAs();
  await page.goto(url);
  await expect(page.getByText(`You are signed in as ${before}.`)).toBeVisible();
  expect(page.url()).not.toContain("code");
  expect(await signedInAs()).toBe(before);
  await page.getByRole("button", { name: "Stay signed in" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "Workers" })).toBeVisible();
  expect(await signedInAs()).toBe(before);

  await page.goto(url); // was not used
  await page.getByRole("button", { name: "Sign in as the link says" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "Workers" })).toBeVisible();
  expect(await signedInAs()).toBe("link");
});

test("who is not signed in comes back to the page that was asked for", async ({ page }) => {
  await page.goto("/system");
  await expect(page).toHaveURL(/\/login\?next=/);
  await page.getByLabel("API token").fill("no token at all");
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await expect(page.getByRole("alert")).toBeVisible();
  await page.getByLabel("API token").fill(token);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await expect(page).toHaveURL(/\/system$/);
});

test("signing out ends the session on the server, too", async ({ signedIn: page }) => {
  const [cookie] = await page.context().cookies();
  await page.getByRole("button", { name: "Sign out", exact: true }).click();
  await expect(page).toHaveURL(/\/login/);
  const answer = await fetch(`${dashboard}/session`, { headers: { Cookie: `${cookie!.name}=${cookie!.value}` } });
  expect(answer.status).toBe(401);
});

test("the end of a session is said, and takes no edits of a policy away", async ({ signedIn: page }) => {
  await page.goto(`/${account}/workers/shop/rollback?view=policy`);
  const rate = page.getByLabel("Failure rate (% of requests)");
  await rate.fill("3");
  const [cookie] = await page.context().cookies();
  await fetch(`${dashboard}/session`, { method: "DELETE", headers: { Cookie: `${cookie!.name}=${cookie!.value}` } });
  await page.getByRole("button", { name: /^Save/ }).click();
  await expect(page.getByRole("status").filter({ hasText: "Your session has ended." })).toBeVisible();
  await page.getByLabel("API token").fill(token);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await expect(page.getByText("Your changes that were not saved are back in the fields.")).toBeVisible();
  await expect(rate).toHaveValue("3");
  await page.reload();
  await expect(rate).toHaveValue("3");
  await page.getByRole("button", { name: "Drop them" }).click();
  await expect(rate).toHaveValue("");
  await page.reload();
  await expect(rate).toHaveValue("");
});

test("another site cannot act with the session", async ({ signedIn: page }) => {
  const [cookie] = await page.context().cookies();
  const answer = await fetch(`${dashboard}/session`, {
    method: "DELETE",
    headers: { Cookie: `${cookie!.name}=${cookie!.value}`, Origin: "https://example.com", "Sec-Fetch-Site": "cross-site" },
  });
  expect(answer.status).toBe(403);
  await page.goto("/accounts");
  await expect(page.getByRole("heading", { level: 1, name: "Accounts" })).toBeVisible();
});

test("a person signs in at the identity provider, and comes back to the page that was asked for", async ({ page }) => {
  await page.goto("/system");
  await page.getByRole("button", { name: "Sign in with Example" }).click();
  await expect(page.getByRole("heading", { name: "Who are you?" })).toBeVisible();
  await page.getByRole("button", { name: "Ada Lovelace" }).click();
  await expect(page).toHaveURL(`${dashboard}/system`);
  await expect(page.getByText("Signed in as ada@example.com")).toBeVisible();
  const cookies = (await page.context().cookies()).filter((c) => c.name.startsWith("tidegate"));
  expect(cookies).toHaveLength(1); // the attempt's is gone
  expect(cookies[0]).toMatchObject({ name: "tidegate-session", httpOnly: true, sameSite: "Strict", path: "/" });
  expect(await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }))).not.toMatch(/code|state|next/);

  await page.getByRole("button", { name: "Sign out everywhere" }).click();
  await page.getByRole("button", { name: "End all sessions" }).click();
  await expect(page.getByText("You are signed out here. At Example you may still be signed in")).toBeVisible();
  const answer = await fetch(`${dashboard}/session`, { headers: { Cookie: `${cookies[0]!.name}=${cookies[0]!.value}` } });
  expect(answer.status).toBe(401);
});

test("who has no role is told so on the login page", async ({ page }) => {
  await page.goto("/login");
  await page.getByRole("button", { name: "Sign in with Example" }).click();
  await page.getByRole("button", { name: "Nobody Special" }).click();
  await expect(page.getByRole("alert")).toContainText("no group of yours that has a role here");
  await expect(page).toHaveURL(`${dashboard}/login`);
  await page.goto("/login?error=access_denied&state=x");
  await expect(page.getByText("The identity provider has refused: access denied.")).toBeVisible();
});
