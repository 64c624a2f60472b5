// Makes a script: uploads its first version and gives it all traffic.
import { ApiError, call, path, scriptPath, type Schemas } from "../../api/client";
import { serviceBinding, versionBinding, type Template } from "./templates";

export const module = "index.js";

/** The behaviour of the runtime that the templates are written for. It must be no newer than the runtime that deps/ locks. */
export const compatibilityDate = "2026-10-06";

export interface FromTemplate {
  account: string;
  script: string;
  template: Template;
  /** The script that the template calls, where it calls one. */
  service: string;
  tag: string;
}

export interface FromOrigin {
  account: string;
  script: string;
  url: string;
  tag: string;
}

/** Thrown when the name is in use: an upload would give that script's traffic to the template. */
export class NameTaken extends Error {
  constructor(readonly script: string) {
    super(`This account has a script “${script}” already: choose another name, or open that one and upload a version there.`);
  }
}

/** Thrown when the script is there, but the step after its first version failed. */
export class HalfMade extends Error {
  /** `but` says what it lacks, and what to do about it. */
  constructor(readonly script: string, readonly but: string, cause: unknown) {
    super(`${script} is made, but ${but}`, { cause });
  }
}

async function refuseTaken(account: string, script: string): Promise<void> {
  try {
    await call<Schemas["Worker"]>("GET", path("accounts", account, "workers", "workers", script));
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return;
    throw error;
  }
  throw new NameTaken(script);
}

/** The form of an upload, as wrangler sends it. */
export function uploadForm(from: Pick<FromTemplate, "template" | "service" | "tag">): FormData {
  const bindings: Record<string, string>[] = [{ name: versionBinding, type: "version_metadata" }];
  if (from.template.service) bindings.push({ name: serviceBinding, type: "service", service: from.service });
  const metadata = {
    main_module: module,
    bindings,
    compatibility_date: compatibilityDate,
    annotations: { "workers/tag": from.tag || undefined, "workers/message": `From the template “${from.template.name}”` },
  };
  const form = new FormData();
  form.set("metadata", JSON.stringify(metadata));
  form.set(module, new Blob([from.template.source], { type: "application/javascript+module" }), module);
  return form;
}

export async function createFromTemplate(from: FromTemplate): Promise<void> {
  const { account, script, template } = from;
  await refuseTaken(account, script);
  await call<Schemas["UploadedScript"]>("PUT", scriptPath(account, script), { body: uploadForm(from) });
  if (template.schedule) {
    try {
      await call<unknown>("PUT", scriptPath(account, script, "schedules"), { body: [{ cron: template.schedule }] });
    } catch (cause) {
      throw new HalfMade(script, `its schedule “${template.schedule}” is not set: set it with wrangler or the API, or delete the script and make it again.`, cause);
    }
  }
}

export async function createFromOrigin(from: FromOrigin): Promise<void> {
  const { account, script, url, tag } = from;
  await refuseTaken(account, script);
  const annotations = tag ? { "workers/tag": tag } : {};
  const version = await call<Schemas["Version"]>("POST", scriptPath(account, script, "versions"), { body: { metadata: { origin: { url }, annotations } } });
  try {
    await call<Schemas["Deployment"]>("POST", scriptPath(account, script, "deployments"), {
      query: { if_serving: "none" },
      body: { strategy: "percentage", versions: [{ version_id: version.id, percentage: 100 }] },
    });
  } catch (cause) {
    throw new HalfMade(script, "its version is not deployed: open it, and promote the version there.", cause);
  }
}
