// Saving: a new version, and if it is asked for a deployment of it.
import { useEffect, useState } from "preact/hooks";
import { call, scriptPath, type Schemas } from "../../api/client";
import { dropDraft, tabStorage } from "../../lib/drafts";
import { useAction, useQuery } from "../../lib/query";
import { deploy, isOvertaken } from "../workers/data";
import { listVersions, type Deployment, type ScriptName } from "./data";
import { diagnosticsOf, type Diagnostic } from "./diagnostics";
import { keyOf } from "./draft";
import type { Version } from "./settings";
import { formFor, parseFlags } from "./upload";
import { editedOf, type TextOf, type Work } from "./work";

export interface Result {
  version: Version;
  deployed: boolean;
  /** A version that somebody else uploaded meanwhile. */
  passed: Version | undefined;
}

interface Input {
  at: ScriptName;
  version: Version;
  work: Work;
  text: TextOf;
  /** Gets the work as it is saved now. What people changed since the click is not in it. */
  onSaved: (settled: Work, id: string) => void;
}

/** Deploy to take all traffic from `over`, if that still serves. */
export interface Deploying {
  over: Deployment | null;
}

export function useSave(input: Input) {
  const { at } = input;
  const [base, setBase] = useState(input.version);
  const [saved, setSaved] = useState<Result>();
  const [diagnostics, setDiagnostics] = useState<Diagnostic[]>([]);
  const { newest, lateFrom } = useNewest(at, base);
  const action = useAction(async (deploying?: Deploying) => {
    setSaved(undefined);
    setDiagnostics([]);
    const { work } = input;
    // People type on while this runs: all of it is about the texts of the click.
    const texts = new Map(work.sheets.filter((s) => s.text !== undefined).map((s) => [s.id, input.text(s)]));
    const text: TextOf = (s) => texts.get(s.id)!;
    const last = (await listVersions(at, 1, 1)).items[0] ?? base;
    const edited = editedOf(work, text, parseFlags(work.compatibilityFlags));
    const url = scriptPath(at.account, at.script, "versions");
    let answer: Schemas["Version"];
    try {
      answer = await call<Schemas["Version"]>("POST", url, { query: { bindings_inherit: "strict" }, body: formFor(base, last, edited) });
    } catch (error) {
      setDiagnostics(diagnosticsOf(error, work.sheets.map((s) => ({ name: s.name, text: s.text === undefined ? undefined : text(s) }))));
      throw error;
    }
    const version = versionOf(base, answer, edited.main);
    dropDraft(tabStorage(), keyOf({ ...at, version: base.id }));
    const passed = lateFrom !== undefined && last.number > lateFrom ? last : undefined;
    setBase(version);
    setSaved({ version, deployed: false, passed });
    const sheets = work.sheets.map((s, i) => ({ ...s, text: s.text === undefined ? undefined : text(s), was: edited.modules[i]! }));
    input.onSaved({ ...work, sheets, tag: "", message: "" }, version.id);
    if (!deploying) return;
    await deployOver(at, version.id, deploying.over);
    setSaved({ version, deployed: true, passed });
  });
  return { run: action.run, busy: action.busy, error: action.error, base, saved, diagnostics, newest, late: newest !== undefined && lateFrom !== undefined && newest.number > lateFrom };
}

/** Milliseconds between two looks at what others upload. */
const lookEvery = 15_000;

/**
 * The newest version, and the number of the one that was when the work on base began: a
 * higher one came while it was edited.
 */
function useNewest(at: ScriptName, base: Version): { newest: Version | undefined; lateFrom: number | undefined } {
  const answer = useQuery(`newest ${at.account} ${at.script} ${base.id}`, (signal) => listVersions(at, 1, 1, signal), { every: lookEvery });
  const newest = answer.data?.items[0];
  const [first, setFirst] = useState<{ base: string; number: number }>();
  useEffect(() => {
    if (newest && first?.base !== base.id) setFirst({ base: base.id, number: Math.max(newest.number, base.number) });
  }, [newest, base.id]);
  return { newest, lateFrom: first?.base === base.id ? first.number : undefined };
}

function versionOf(base: Version, answer: Schemas["Version"], main: string): Version {
  const { id, number, annotations, metadata, resources, startup_time_ms } = answer;
  const { modules: _, ...rest } = base;
  return {
    ...rest, id, number, annotations, urls: [], created_on: metadata.created_on, source: metadata.source, author_email: metadata.author_email, main_module: main,
    ...(startup_time_ms === undefined ? {} : { startup_time_ms }), ...(resources ? { bindings: resources.bindings, ...resources.script_runtime } : {}),
  };
}

async function deployOver(at: ScriptName, version: string, over: Deployment | null): Promise<void> {
  try {
    await deploy(at.account, at.script, { splits: [{ version_id: version, percentage: 100 }], message: "", replaces: over?.id });
  } catch (error) {
    if (!isOvertaken(error)) throw error;
    throw new Error("Another deployment was made meanwhile, so that what was confirmed is no longer what would happen. Look at it, and promote the new version then.");
  }
}
