import { account, api, dashboard, expect, test, token } from "../world";

interface Token { id: string; name: string; scopes: string[]; expires_on?: string }

const tokens = `/client/v4/accounts/${account}/tokens`;

test("a token is made, shown once, used and revoked", async ({ signedIn: page, browser }) => {
  const name = `on call ${Date.now()}`;
  await page.goto(`/${account}/tokens`);
  await page.getByRole("button", { name: "Create a token" }).click();
  await page.getByRole("button", { name: "Create the token" }).click();
  await expect(page.getByText("Choose at least one.")).toBeVisible();
  await page.getByRole("textbox", { name: "Name" }).fill(name);
  await page.getByRole("checkbox", { name: /^logs:read/ }).check();
  await page.getByRole("combobox", { name: "Expires" }).selectOption("7 days");
  await page.getByRole("button", { name: "Create the token" }).click();

  const field = page.getByRole("textbox", { name: "Secret" });
  await expect(field).toHaveValue(/^\S{40,}$/);
  const secret = await field.inputValue();
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape"); // which browsers let no page prevent
  await expect(field).toHaveValue(secret);
  await page.getByRole("button", { name: "I have kept it" }).click();
  await page.reload();
  const row = page.getByRole("row", { name });
  await expect(row).toContainText("logs:read");
  await expect(row).toContainText("in 6 days");
  await expect(row).toContainText("never"); // used
  expect(await page.content()).not.toContain(secret);
  const made = (await api<Token[]>("GET", tokens)).find((t) => t.name === name);
  expect(made?.scopes).toEqual(["logs:read"]);

  const other = await (await browser.newContext({ baseURL: dashboard })).newPage();
  await other.goto("/accounts");
  await other.getByLabel("API token").fill(secret);
  await other.getByRole("button", { name: "Sign in", exact: true }).click();
  await expect(other).toHaveURL(/\/accounts$/);
  await expect(other.getByRole("heading", { level: 1, name: "Accounts" })).toBeVisible();
  await expect(other.getByRole("button", { name: "Create an account" })).toHaveCount(0);
  await expect(other.getByRole("link", { name: "Tokens" })).toHaveCount(0);

  await page.getByRole("button", { name: `Revoke the token ${name}` }).click();
  await expect(page.getByRole("dialog")).toContainText("opens nothing from then on");
  await page.getByRole("button", { name: `Revoke ${name}` }).click();
  await expect(row).toHaveCount(0);
  await other.goto(`/${account}/workers`);
  await expect(other).toHaveURL(/\/login/);
  await other.context().close();
});

test("who revokes the token of the session is signed out", async ({ page }) => {
  const { value } = await api<{ value: string }>("POST", tokens, { name: "mine", scopes: ["admin"] });
  await page.goto("/login");
  await page.getByLabel("API token").fill(value);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await expect(page).not.toHaveURL(/\/login/);
  await page.goto(`/${account}/tokens`);
  await expect(page.getByRole("row", { name: /mine/ })).toContainText("your session");
  await page.getByRole("button", { name: "Revoke the token mine" }).click();
  await expect(page.getByRole("dialog")).toContainText("will be signed out");
  await page.getByRole("button", { name: "Revoke mine" }).click();
  await expect(page).toHaveURL(/\/login/);
});

test("the operator makes and renames an account, and goes to it", async ({ signedIn: page }) => {
  const name = `Shop ${Date.now()}`;
  await page.goto("/accounts");
  await page.getByRole("button", { name: "Create an account" }).click();
  await page.getByRole("textbox", { name: "Name" }).fill(name);
  await page.getByRole("button", { name: "Create the account" }).click();
  await page.getByRole("button", { name: `Change the account ${name}` }).click();
  await page.getByRole("textbox", { name: "Name" }).fill(`${name} & Sons`);
  await page.getByLabel("Versions in a deployment").fill("1");
  await page.getByRole("button", { name: "Save the changes" }).click();
  await expect(page.getByText("A whole number from 2 to 100 is wanted.")).toBeVisible();
  await page.getByLabel("Versions in a deployment").fill("4");
  await page.getByRole("button", { name: "Save the changes" }).click();
  await page.getByRole("link", { name: `${name} & Sons` }).click();
  await expect(page.getByRole("combobox", { name: "Account" }).locator("option:checked")).toHaveText(`${name} & Sons`);
  await expect(page.getByRole("heading", { level: 1, name: "Workers" })).toBeVisible();
});

test("a link that is opened in a tab of the login page signs in, too", async ({ page }) => {
  const { url } = await api<{ url: string }>("POST", "/session/links");
  await page.goto("/login");
  await expect(page.getByLabel("API token")).toBeVisible();
  await page.goto(url); // nothing but what is behind the # is new
  await expect(page).not.toHaveURL(/\/login/);
});

test("nobody is sent to another site after signing in", async ({ page }) => {
  await page.goto("/login?next=%2F%2Fexample.com%2F");
  await page.getByLabel("API token").fill(token);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await expect(page).toHaveURL(new RegExp(`^${dashboard}/${account}/workers`));
});
