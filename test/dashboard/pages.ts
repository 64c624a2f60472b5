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
  /** Waits until it shows what it is for. */
  ready?: (page: Page) => Promise<void>;
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
  return [
    { name: "workers", path: `${home}/workers?last=300`, heading: "Workers", ready: rows },
    { name: "new-worker", path: `${home}/workers/new`, heading: /create|new/i },
    { name: "script", path: `${of("shop")}?last=300`, heading: "shop" },
    { name: "versions", path: `${of("shop")}/versions`, heading: "Versions", ready: rows },
    { name: "version", path: `${of("shop")}/versions/${v2}`, heading: /v2/ },
    { name: "diff", path: `${of("shop")}/diff?from=${v1}&to=${v2}`, heading: /diff|differ/i },
    { name: "deployments", path: `${of("shop")}/deployments`, heading: "Deployments" },
    { name: "edit", path: `${of("shop")}/edit`, heading: /code/i },
    { name: "compare", path: `${of("shop")}/compare?baseline=${v1}&candidate=${v2}&last=300`, heading: /compare/i, ready: charts },
    { name: "live", path: `${of("shop")}/live`, heading: "Live", ready: rows },
    { name: "rollback", path: `${of("shop")}/rollback`, heading: "Rollback" },
    { name: "ramp", path: `${of("search")}/rollback`, heading: "Rollback" },
    { name: "decision", path: `${of("checkout")}/rollback?decision=${decision}`, heading: "Rollback" },
    { name: "default-policy", path: `${home}/rollback`, heading: /policy|rollback/i },
    { name: "script-calls", path: `${of("shop")}/calls`, heading: "Calls" },
    { name: "calls", path: `${home}/calls`, heading: "Calls", ready: rows },
    { name: "logpush", path: `${home}/logpush`, heading: "Logpush", ready: rows },
    { name: "new-job", path: `${home}/logpush/new`, heading: /job/i },
    { name: "job", path: `${home}/logpush/${job("picky")}?last=300`, heading: /picky/ },
    { name: "edit-job", path: `${home}/logpush/${job("everything")}/edit`, heading: /everything|edit/i },
    { name: "tokens", path: `${home}/tokens`, heading: "Tokens", ready: rows },
    { name: "audit", path: `${home}/audit`, heading: "Audit log", ready: rows },
    { name: "accounts", path: "/accounts", heading: "Accounts", ready: rows },
    { name: "system", path: "/system", heading: /system/i },
  ];
}

export async function open(page: Page, shown: Shown): Promise<void> {
  await page.goto(shown.path);
  await expect(page.getByRole("heading", { level: 1, name: shown.heading })).toBeVisible();
  await shown.ready?.(page);
  await expect(page.getByText(/^Loading/)).toHaveCount(0);
}
