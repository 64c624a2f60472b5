// What a script without versions is edited from.
import { compatibilityDate, module } from "../workers/create";
import { templates, versionBinding } from "../workers/templates";
import { moduleTypes } from "./modules";
import type { Version } from "./settings";

/** The template “Hello World” as a version that is in no script: its number is 0, and what is saved from it is the first one. */
export const template: Version = {
  id: "template", number: 0, created_on: "", source: "dash", author_email: "", annotations: {}, urls: [], usage_model: "standard", limits: {},
  bindings: [{ name: versionBinding, type: "version_metadata" }], compatibility_date: compatibilityDate, compatibility_flags: [],
  main_module: module, modules: [{ name: module, content_type: moduleTypes.esm, content_base64: btoa(templates[0]!.source) }],
};

export const isTemplate = (version: Pick<Version, "number">): boolean => version.number === 0;
