import { afterEach, expect, test, vi } from "vitest";
import { createFromOrigin, createFromTemplate, HalfMade, uploadForm } from "./create";
import { templateOf, templates } from "./templates";

function metadata(form: FormData): { bindings: Record<string, string>[]; main_module: string } {
  return JSON.parse(form.get("metadata") as string) as { bindings: Record<string, string>[]; main_module: string };
}

test("an upload names the module that it carries, with the type that the runtime needs", async () => {
  for (const template of templates) {
    const form = uploadForm({ template, service: "other", tag: "v1" });
    const part = form.get(metadata(form).main_module) as File;
    expect(part.type).toBe("application/javascript+module");
    expect(await part.text()).toBe(template.source);
  }
});

test("each binding that a template uses is in its upload", () => {
  for (const template of templates) {
    const bound = metadata(uploadForm({ template, service: "other", tag: "" })).bindings;
    const used = new Set([...template.source.matchAll(/env\.([A-Z]+)/g)].map((m) => m[1]));
    for (const name of used) expect(bound.map((b) => b["name"]), template.id).toContain(name);
  }
  expect(metadata(uploadForm({ template: templateOf("caller"), service: "other", tag: "" })).bindings).toContainEqual({ name: "BACKEND", type: "service", service: "other" });
});

/** Has the API refuse what `method` and the end of the path name, and do all else. */
function refuse(method: string, end: string): void {
  vi.stubGlobal("fetch", (url: string, init?: RequestInit) => {
    const path = new URL(url, "http://localhost").pathname;
    const answer = (status: number, result: unknown, errors: unknown[] = []): Response => Response.json({ success: status < 400, errors, messages: [], result }, { status });
    if (init?.method === method && path.endsWith(end)) return Promise.resolve(answer(503, null, [{ code: 1, message: "not now" }]));
    if (path.endsWith("/workers/workers/shop")) return Promise.resolve(answer(404, null, [{ code: 10007, message: "no such script" }]));
    return Promise.resolve(answer(200, { id: "v" }));
  });
}

afterEach(() => vi.unstubAllGlobals());

test("a script that is there is not said to be missing, though what follows fails", async () => {
  const template = templates.find((t) => t.schedule)!;
  const fromTemplate = (): Promise<void> => createFromTemplate({ account: "a", script: "shop", template, service: "", tag: "" });
  const fromOrigin = (): Promise<void> => createFromOrigin({ account: "a", script: "shop", url: "http://10.0.0.5", tag: "" });
  refuse("PUT", "/schedules");
  await expect(fromTemplate()).rejects.toThrow(/^shop is made, but its schedule/);
  refuse("POST", "/deployments");
  await expect(fromOrigin()).rejects.toThrow(/^shop is made, but its version is not deployed/);

  refuse("PUT", "/scripts/shop");
  await expect(fromTemplate()).rejects.not.toBeInstanceOf(HalfMade);
  refuse("POST", "/versions");
  await expect(fromOrigin()).rejects.not.toBeInstanceOf(HalfMade);
});
