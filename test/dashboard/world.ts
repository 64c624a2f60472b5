// What the program that starts these tests has prepared: see world.go.
import { test as base, expect, type Page } from "@playwright/test";

function variable(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run "go run ./test/dashboard" in the project's folder`);
  return value;
}

export const dashboard = variable("TIDEGATE_DASHBOARD");
export const token = variable("TIDEGATE_TOKEN");
export const account = variable("TIDEGATE_ACCOUNT");
export const gateway = variable("TIDEGATE_GATEWAY");
export const collector = variable("TIDEGATE_COLLECTOR");

/** Lines that a Logpush job has delivered to a path of the collector. */
export async function delivered(path: string): Promise<number> {
  return Number(await (await fetch(`${collector}/lines${path}`)).text());
}

/** Opens the API as the pages do not: with the token, from outside the browser. */
export async function api<T>(method: string, path: string, body?: unknown): Promise<T> {
  const init: RequestInit = { method, headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" } };
  if (body !== undefined) init.body = JSON.stringify(body);
  const answer = await fetch(`${dashboard}${path}`, init);
  const envelope = (await answer.json()) as { success: boolean; errors: unknown; result: T };
  if (!envelope.success) throw new Error(`${method} ${path}: ${JSON.stringify(envelope.errors)}`);
  return envelope.result;
}

/**
 * The browser's page, signed in. What it must never do fails the test: an error on the
 * console (a blocked style or script is one), an exception, a request to another origin.
 */
export const test = base.extend<{ signedIn: Page }>({
  signedIn: async ({ page }, use) => {
    const faults: string[] = [];
    page.on("console", (m) => {
      // Chromium reports every refused request there; what the API refuses the pages show themselves.
      const refused = m.text().startsWith("Failed to load resource") && /^\/(client\/v4|session)\b/.test(m.location().url.slice(dashboard.length));
      if (m.type() === "error" && !refused) faults.push(`${m.text()} (${m.location().url})`);
    });
    page.on("pageerror", (e) => faults.push(e.stack ?? e.message));
    page.on("request", (r) => {
      if (!r.url().startsWith(dashboard) && !r.url().startsWith("blob:")) faults.push(`asked for ${r.url()}`);
    });
    await page.goto("/login");
    await page.getByLabel("API token").fill(token);
    await page.getByRole("button", { name: "Sign in", exact: true }).click();
    await expect(page).not.toHaveURL(/\/login/);
    await use(page);
    expect(faults).toEqual([]);
  },
});

export { expect };
