// Every page of the dashboard, in the world that world.go makes: what tests of all pages
// and the screenshots go through.
import { type Page } from "@playwright/test";
import { account, api, expect } from "./world";

export interface Shown {
  /** Names its screenshot. */
  name: string;
  path: string;
  /** Its heading. */
  heading: string | RegExp;
  /** Waits until it shows what it is for, or has it show that. */
  ready?: (page: Page) => Promise<void>;
  /** A state that the documentation needs no picture of. */
  unpictured?: true;
}

interface Version { id: string; number: number }
interface Job { id: number; name: string }
interface Decision { id: string }

/** The pages, with the ids that this platform happens to have. */
export async function allPages(): Promise<Shown[]> {
  const scripts = `/client/v4/accounts/${account}/workers/scripts`;
  const versions = (await api<{ items: Version[] }>("GET", `${scripts}/shop/versions`)).items.toSorted((a, b) => a.number - b.number);
  const [v1, v2] = [versions[0]!.id, versions[1]!.id];
  const jobs = await api<Job[]>("GET", `/client/v4/accounts/${account}/logpush/jobs`);
  const job = (name: string): number => jobs.find((j) => j.name === name)!.id;
  const decision = (await api<Decision[]>("GET", `${scripts}/checkout/rollback-decisions`))[0]!.id;

  const home = `/${account}`;
  const of = (script: string): string => `${home}/workers/${script}`;
  const charts = async (page: Page): Promise<void> => expect(page.locator(".chart canvas").first()).toBeVisible();
  const rows = async (page: Page): Promise<void> => expect(page.getByRole("row").nth(1)).toBeVisible();
  const empty = async (page: Page): Promise<void> => expect(page.locator(".empty").first()).toBeVisible();
  const dialog = (role: "button" | "link", name: string | RegExp) => async (page: Page): Promise<void> => {
    await page.getByRole(role, { name }).first().click();
    await expect(page.getByRole("dialog").getByRole("heading").first()).toBeVisible();
  };
  return [
    { name: "workers", path: `${home}/workers?last=300`, heading: "Workers", ready: async (page) => expect(page.locator(".spark").first()).toBeVisible() },
    { name: "new-worker", path: `${home}/new-script`, heading: /create|new/i },
    { name: "script", path: `${of("shop")}?last=300`, heading: "shop" },
    { name: "versions", path: `${of("shop")}/versions`, heading: "Versions", ready: rows },
    { name: "version", path: `${of("shop")}/versions/${v2}`, heading: /v2/ },
    { name: "diff", path: `${of("shop")}/diff?from=${v1}&to=${v2}`, heading: /diff|differ/i },
    { name: "deployments", path: `${of("shop")}/deployments`, heading: "Deployments" },
    { name: "edit", path: `${of("shop")}/edit`, heading: /code/i, ready: async (page) => expect(page.locator(".cm-line").first()).toBeVisible() },
    { name: "compare", path: `${of("shop")}/compare?baseline=${v1}&candidate=${v2}&last=300`, heading: /compare/i, ready: charts },
    { name: "live", path: `${of("shop")}/live`, heading: "Live", ready: async (page) => expect(page.getByText(/^[1-9]\d* came/)).toBeVisible() },
    { name: "rollback", path: `${of("shop")}/rollback`, heading: "Rollback" },
    { name: "ramp", path: `${of("search")}/rollback`, heading: "Rollback" },
    { name: "decision", path: `${of("checkout")}/rollback?decision=${decision}`, heading: "Rollback" },
    { name: "policy", path: `${of("checkout")}/rollback?view=policy`, heading: "Rollback", ready: async (page) => expect(page.getByRole("form")).toBeVisible() },
    {
      name: "backtest", path: `${of("checkout")}/rollback?view=backtest`, heading: "Rollback", ready: async (page) => {
        // Seconds are in it from two minutes after them on.
        await expect(async () => {
          await page.getByRole("button", { name: "Run the backtest" }).click();
          await expect(page.locator(".chart canvas").first()).toBeVisible({ timeout: 10_000 });
        }).toPass({ timeout: 180_000 });
        await page.getByRole("region", { name: "Result of the backtest" }).evaluate((e) => { e.scrollIntoView(); });
      },
    },
    { name: "decisions", path: `${of("checkout")}/rollback?view=decisions`, heading: "Rollback", ready: rows },
    { name: "default-policy", path: `${home}/rollback`, heading: /policy|rollback/i },
    { name: "script-calls", path: `${of("shop")}/calls`, heading: "Calls" },
    { name: "calls", path: `${home}/calls`, heading: "Calls", ready: rows },
    { name: "logpush", path: `${home}/logpush`, heading: "Logpush", ready: rows },
    { name: "new-job", path: `${home}/logpush/new`, heading: /job/i },
    { name: "job", path: `${home}/logpush/${job("picky")}?last=300`, heading: /picky/ },
    { name: "edit-job", path: `${home}/logpush/${job("everything")}/edit`, heading: /everything|edit/i },
    { name: "dead-letters", path: `${home}/logpush/${job("picky")}/dead-letters`, heading: /Dead letters/, ready: rows },
    { name: "replays", path: `${home}/logpush/${job("everything")}/replays`, heading: /Replays/, ready: async (page) => expect(page.getByRole("heading", { name: /^Replay \d+/ }).first()).toBeVisible() },
    { name: "tokens", path: `${home}/tokens`, heading: "Tokens", ready: rows },
    { name: "audit", path: `${home}/audit`, heading: "Audit log", ready: rows },
    { name: "accounts", path: "/accounts", heading: "Accounts", ready: rows },
    { name: "system", path: "/system", heading: /system/i },

    { name: "no-script", path: of("nothing"), heading: "nothing", ready: async (page) => expect(page.getByRole("alert")).toBeVisible(), unpictured: true },
    { name: "no-page", path: `${home}/nothing`, heading: "No such page", unpictured: true },
    { name: "no-policy", path: `${of("stock")}/rollback`, heading: "Rollback", ready: empty, unpictured: true },
    { name: "no-decisions", path: `${of("stock")}/rollback?view=decisions`, heading: "Rollback", ready: empty, unpictured: true },
    { name: "no-calls", path: `${of("stock")}/calls`, heading: "Calls", ready: async (page) => expect(page.getByText(/called no Worker in this time/)).toBeVisible(), unpictured: true },
    { name: "no-letters", path: `${home}/logpush/${job("everything")}/dead-letters`, heading: /Dead letters/, ready: empty, unpictured: true },
    { name: "no-replays", path: `${home}/logpush/${job("picky")}/replays`, heading: /Replays/, ready: empty, unpictured: true },
    { name: "no-changes", path: `${home}/audit?action=none`, heading: "Audit log", ready: empty, unpictured: true },

    { name: "token-dialog", path: `${home}/tokens`, heading: "Tokens", ready: dialog("button", "Create a token"), unpictured: true },
    { name: "revoke-dialog", path: `${home}/tokens`, heading: "Tokens", ready: dialog("button", "Revoke the token deployments from CI"), unpictured: true },
    { name: "change-dialog", path: `${home}/audit`, heading: "Audit log", ready: dialog("link", /\.create$/), unpictured: true },
    { name: "event-dialog", path: `${of("checkout")}/live?failed=true`, heading: "Live", ready: dialog("button", /^GET \/items/), unpictured: true },
    { name: "ramp-dialog", path: `${of("search")}/rollback`, heading: "Rollback", ready: dialog("button", /^Hold/), unpictured: true },
    { name: "account-dialog", path: "/accounts", heading: "Accounts", ready: dialog("button", "Create an account"), unpictured: true },
  ];
}

export async function open(page: Page, shown: Shown): Promise<void> {
  await page.goto(shown.path);
  await expect(page.getByRole("heading", { level: 1, name: shown.heading })).toBeVisible();
  await shown.ready?.(page);
  await expect(page.getByText(/^Loading/)).toHaveCount(0);
}
