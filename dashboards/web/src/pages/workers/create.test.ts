import { expect, test } from "vitest";
import { uploadForm } from "./create";
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
