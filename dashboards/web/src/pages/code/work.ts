// What an editor holds of a version that is to be: plain values, and how they come from a
// version or a draft and become a draft or an upload.
import { serverNow } from "../../lib/clock";
import { tagOf } from "../../lib/versions";
import type { Draft } from "./draft";
import { isTemplate } from "./first";
import { textOf, type Module } from "./modules";
import type { Named } from "./names";
import type { Version } from "./settings";
import type { Edited } from "./upload";

/** One module in the editor. Its id stays when its name changes. */
export interface Sheet {
  id: number;
  name: string;
  contentType: string;
  /** As it was opened; undefined for a module that is no text and stays as it is. */
  text: string | undefined;
  /** The module of the version that this one was. */
  was: Module | undefined;
}

export interface Work {
  sheets: Sheet[];
  /** The id of the main module. */
  main: number;
  compatibilityDate: string;
  /** As people type them. */
  compatibilityFlags: string;
  tag: string;
  message: string;
}

/** The present text of a sheet that has one. */
export type TextOf = (sheet: Sheet) => string;

export function workOf(version: Version, modules: readonly Module[]): Work {
  const sheets = modules.map((m, id): Sheet => ({ id, name: m.name, contentType: m.contentType, text: textOf(m), was: m }));
  return {
    sheets, main: sheets.find((s) => s.name === version.main_module)?.id ?? 0,
    compatibilityDate: version.compatibility_date ?? "", compatibilityFlags: version.compatibility_flags.join(" "), tag: "", message: "",
  };
}

/** The work of a draft. What the version no longer has of it, which cannot be, is left out. */
export function workOfDraft(draft: Draft, modules: readonly Module[]): Work {
  const sheets = draft.modules.flatMap((d, id): Sheet[] => {
    const was = modules.find((m) => m.name === d.was);
    if (d.text === undefined) return was ? [{ id, name: d.name, contentType: d.contentType, text: undefined, was }] : [];
    return [{ id, name: d.name, contentType: d.contentType, text: d.text, was }];
  });
  const { compatibilityDate, compatibilityFlags, tag, message } = draft;
  return { sheets, main: sheets.find((s) => s.name === draft.main)?.id ?? 0, compatibilityDate, compatibilityFlags, tag, message };
}

/** What is kept of work, with the time by the server’s clock, against which its age is told. */
export function draftOf(work: Work, text: TextOf, version: Named): Draft {
  const { compatibilityDate, compatibilityFlags, tag, message } = work;
  return {
    at: serverNow().toISOString(), version: isTemplate(version) ? "the template" : [`version ${version.number}`, tagOf(version)].filter(Boolean).join(", "),
    modules: work.sheets.map((s) => ({
      name: s.name, contentType: s.contentType, ...(s.text === undefined ? {} : { text: text(s) }), ...(s.was ? { was: s.was.name } : {}),
    })),
    main: mainOf(work).name, compatibilityDate, compatibilityFlags, tag, message,
  };
}

export function editedOf(work: Work, text: TextOf, flags: string[]): Edited {
  return {
    modules: work.sheets.map((s): Module => ({ name: s.name, contentType: s.contentType, bytes: s.text === undefined ? s.was!.bytes : new TextEncoder().encode(text(s)) as Uint8Array<ArrayBuffer> })),
    main: mainOf(work).name, compatibilityDate: work.compatibilityDate.trim(), compatibilityFlags: flags, tag: work.tag.trim(), message: work.message.trim(),
  };
}

export function mainOf(work: Work): Sheet {
  return work.sheets.find((s) => s.id === work.main) ?? work.sheets[0]!;
}

/** Whether work differs from what it began with, beside the texts of its sheets. */
export function changedFrom(begun: Work, work: Work): boolean {
  const outline = (w: Work): string => JSON.stringify([
    w.sheets.map((s) => [s.id, s.name, s.contentType]), w.main, w.compatibilityDate, w.compatibilityFlags, w.tag, w.message,
  ]);
  return outline(begun) !== outline(work);
}

/** The work to go on with once `sent` was saved as `settled`: what was changed meanwhile stays. */
export function afterSave(sent: Work, settled: Work, now: Work): Work {
  const saved = new Map(settled.sheets.map((s) => [s.id, s]));
  return {
    ...now,
    sheets: now.sheets.map((s) => ({ ...s, was: saved.get(s.id)?.was ?? s.was })),
    tag: now.tag === sent.tag ? settled.tag : now.tag,
    message: now.message === sent.message ? settled.message : now.message,
  };
}

export function nextId(work: Work, began: Work): number {
  return Math.max(-1, ...work.sheets.map((s) => s.id), ...began.sheets.map((s) => s.id)) + 1;
}
