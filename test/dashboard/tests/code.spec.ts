import type { Page } from "@playwright/test";
import { account, api, expect, test } from "../world";

interface Version {
  id: string;
  number: number;
  annotations: Record<string, string>;
  bindings: { name: string }[];
  modules: { name: string; content_base64: string }[];
}

const script = "editor";
const scripts = `/client/v4/accounts/${account}/workers/scripts/${script}`;
const versions = `/client/v4/accounts/${account}/workers/workers/${script}/versions`;
const pages = `/${account}/workers/${script}`;
const main = 'import { greeting } from "./lib/greeting.js";\nexport default {\n  fetch() {\n    return new Response(greeting);\n  },\n};\n';

async function newest(): Promise<Version> {
  const [first] = await api<Version[]>("GET", `${versions}?per_page=1`);
  return api<Version>("GET", `${versions}/${first!.id}?include=modules`);
}

function textOf(version: Version, name: string): string | undefined {
  const module = version.modules.find((m) => m.name === name);
  return module && Buffer.from(module.content_base64, "base64").toString();
}

/** Uploads a version as another person would; the first one makes the script. */
async function upload(tag: string): Promise<void> {
  const module = (name: string, type: string, content: string | Buffer) => ({ name, content_type: type, content_base64: Buffer.from(content).toString("base64") });
  await api("POST", `${versions}?deploy=true`, {
    main_module: "index.js", compatibility_date: "2026-01-01", annotations: { "workers/tag": tag },
    bindings: [{ type: "plain_text", name: "WHO", text: "you" }, { type: "secret_text", name: "KEY", text: "hidden" }],
    modules: [
      module("index.js", "application/javascript+module", main),
      module("lib/greeting.js", "application/javascript+module", `export const greeting = "${tag}";\n`),
      module("empty.wasm", "application/wasm", Buffer.from("0061736d01000000", "hex")),
    ],
  });
}

/** Writes at the end of the module that is shown. */
async function write(page: Page, module: string, text: string): Promise<void> {
  await page.getByRole("textbox", { name: `Code of ${module}` }).click();
  await page.keyboard.press("Control+End");
  await page.keyboard.type(text);
}

test.beforeAll(async () => {
  const there = await api<{ id: string }[]>("GET", `/client/v4/accounts/${account}/workers/scripts`);
  if (!there.some((s) => s.id === script)) await api("POST", `/client/v4/accounts/${account}/workers/workers`, { name: script });
  await upload("one");
});

test("code that does not run is refused at its place, and what is mended is saved with everything that it had", async ({ signedIn: page }) => {
  await page.goto(`${pages}/edit`);
  await write(page, "index.js", "const broken = ;");
  await page.getByRole("button", { name: "Save as a new version" }).click();
  await expect(page.getByRole("alert")).toContainText("Unexpected token");
  await page.getByRole("tab", { name: /greeting/ }).click();
  await page.getByRole("button", { name: "index.js, line 7, column 16" }).click();
  await expect(page.getByRole("textbox", { name: "Code of index.js" })).toBeFocused();
  await expect(page.locator(".cm-lintRange-error")).toHaveText(";");

  await page.keyboard.type('"no more"');
  await page.getByLabel("Tag").fill("mended");
  await page.getByRole("button", { name: "Save as a new version" }).click();
  await expect(page.getByRole("status").filter({ hasText: "It gets no traffic yet" })).toBeVisible();
  const saved = await newest();
  expect(saved.annotations["workers/tag"]).toBe("mended");
  expect(textOf(saved, "index.js")).toBe(`${main}const broken = "no more";`);
  expect(saved.modules.map((m) => m.name).sort()).toEqual(["empty.wasm", "index.js", "lib/greeting.js"]);
  expect(saved.bindings.map((b) => b.name)).toEqual(["KEY", "WHO"]);
  await expect(page.getByRole("link", { name: "Promote it" })).toHaveAttribute("href", `${pages}?promote=${saved.id}`);
});

test("a version that is saved and deployed takes all traffic, after it was said what that takes", async ({ signedIn: page }) => {
  await page.goto(`${pages}/edit?module=lib%2Fgreeting.js`);
  await write(page, "lib/greeting.js", "export const more = 1;");
  await page.getByRole("button", { name: "Save and deploy …" }).click();
  await expect(page.getByRole("dialog")).toContainText("100 %");
  await page.getByRole("button", { name: "Save and deploy at 100 %" }).click();
  await expect(page.getByRole("status").filter({ hasText: "and deployed" })).toBeVisible();
  const { deployments } = await api<{ deployments: { versions: unknown[] }[] }>("GET", `${scripts}/deployments`);
  expect(deployments[0]!.versions).toEqual([{ version_id: (await newest()).id, percentage: 100 }]);
});

test("unsaved work is kept through a reload, is asked for when it is left, and hears of newer versions", async ({ signedIn: page }) => {
  await page.goto(`${pages}/edit`);
  await write(page, "index.js", "// unsaved work");
  await upload("meanwhile");
  await expect(page.getByText("A newer version appeared while you edit:")).toBeVisible();
  await page.getByRole("link", { name: "Versions" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await expect(page).toHaveURL(/\/edit/);
  page.on("dialog", (d) => void d.accept());
  await page.reload();
  await page.getByRole("button", { name: "Restore draft" }).click();
  await expect(page.getByRole("textbox", { name: "Code of index.js" })).toContainText("// unsaved work");
  await page.getByRole("link", { name: "Versions" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Leave" }).click();
  await expect(page.getByRole("heading", { level: 1, name: "Versions" })).toBeVisible();
});

test("the keyboard gets out of the editor", async ({ signedIn: page }) => {
  await page.goto(`${pages}/edit`);
  const code = page.getByRole("textbox", { name: "Code of index.js" });
  await code.click();
  await page.keyboard.press("Tab");
  await expect(code).toBeFocused();
  await page.keyboard.press("Escape");
  await page.keyboard.press("Tab");
  await expect(page.getByLabel("Tag")).toBeFocused();
});

test("two picked versions are shown with what differs between them", async ({ signedIn: page }) => {
  await upload("another");
  await page.goto(`${pages}/versions`);
  await page.getByRole("checkbox", { name: /, another$/ }).first().check();
  await page.getByRole("checkbox", { name: /, one$/ }).first().check();
  await page.getByRole("link", { name: "Show what differs from one to another" }).click();
  await expect(page.getByText("1 of 3 modules differs.")).toBeVisible();
  await expect(page.getByRole("textbox", { name: /lib\/greeting\.js in another/ })).toContainText('greeting = "another"');
  await expect(page.getByRole("row", { name: /KEY/ })).toContainText("Not known");
});

test("a script without a version is begun with the template, and saving it makes the first one", async ({ signedIn: page }) => {
  const blank = `blank-${Date.now().toString(36)}`;
  await api("POST", `/client/v4/accounts/${account}/workers/workers`, { name: blank });
  await page.goto(`/${account}/workers/${blank}`);
  await page.getByRole("link", { name: "Write its first version" }).click();
  await expect(page.getByText("has no version yet: this is the template")).toBeVisible();
  await expect(page.getByRole("textbox", { name: "Code of index.js" })).toContainText("Hello World");
  await page.getByLabel("Tag").fill("first");
  await page.getByRole("button", { name: "Save as a new version" }).click();
  await expect(page.getByText("Saved as version 1, first")).toBeVisible();
  const [first] = await api<Version[]>("GET", `/client/v4/accounts/${account}/workers/workers/${blank}/versions`);
  expect(first!.bindings).toEqual([{ name: "VERSION", type: "version_metadata" }]);
  await api("DELETE", `/client/v4/accounts/${account}/workers/scripts/${blank}`);
});
