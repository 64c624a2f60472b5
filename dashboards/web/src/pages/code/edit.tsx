// Edits the code of a version: what is saved becomes a new one.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useRoute } from "preact-iso";
import { dropDraft, findDraft, tabStorage } from "../../lib/drafts";
import { useQuery } from "../../lib/query";
import { formatAge, now } from "../../lib/time";
import { useSearch } from "../../lib/url";
import { Button, Empty, LinkButton, Loading, Note, Problem } from "../../ui/basics";
import { ScriptPage } from "../../ui/page";
import "../../styles/code.css";
import { addressOf, isWorker, listVersions, useVersion, type ScriptName } from "./data";
import { isDraft, keyOf, otherDrafts, type Draft } from "./draft";
import { isTemplate, template } from "./first";
import { modulesOf } from "./modules";
import { nameOf } from "./names";
import type { Version } from "./settings";
import { Workbench } from "./workbench";
import { workOf, workOfDraft, type Work } from "./work";

export default function Edit() {
  const { account, script } = useRoute().params as { account: string; script: string };
  const at = { account, script };
  const search = useSearch();
  const from = search.get("from");
  // What was saved is edited further without a new beginning, though the address names it.
  const bench = useRef<{ serial: number; begun: string; now: string } | undefined>(undefined);
  if (from !== undefined && bench.current?.now !== from) bench.current = { serial: (bench.current?.serial ?? 0) + 1, begun: from, now: from };
  const saved = (id: string): void => {
    bench.current!.now = id;
    search.set({ from: id }, "replace");
  };
  return (
    <ScriptPage account={account} script={script} title="Edit code">
      {from === undefined ? <Newest at={at} onFound={(id) => search.set({ from: id }, "replace")} />
        : <Begin key={`${account} ${script} ${bench.current!.serial}`} at={at} from={bench.current!.begun} onSaved={saved} />}
    </ScriptPage>
  );
}

/** Without a version in the address the newest one is edited, and where there is none the template. */
function Newest(props: { at: ScriptName; onFound: (id: string) => void }) {
  const { at } = props;
  const newest = useQuery(`newest ${at.account} ${at.script}`, (signal) => listVersions(at, 1, 1, signal));
  const id = newest.data && (newest.data.items[0] ?? template).id;
  useEffect(() => {
    if (id !== undefined) props.onFound(id);
  }, [id]);
  if (newest.error) return <Problem error={newest.error} what="The newest version could not be read." retry={newest.reload} />;
  return <Loading what="the newest version" />;
}

function Begin(props: { at: ScriptName; from: string; onSaved: (id: string) => void }) {
  const { at, from } = props;
  const version = useVersion(at, from === template.id ? undefined : from);
  if (from === template.id) return <BeginWith at={at} version={template} onSaved={props.onSaved} />;
  if (version.error) return <Problem error={version.error} what="The version could not be read." retry={version.reload} />;
  if (!version.data) return <Loading what="the version" />;
  if (!isWorker(version.data)) {
    return (
      <Empty title={`${nameOf(version.data)} is an origin`}>
        <p>Its requests go to a server of yours, so there is no code to edit here.</p>
        <LinkButton href={addressOf(at, "versions")}>Choose another version</LinkButton>
      </Empty>
    );
  }
  return <BeginWith at={at} version={version.data} onSaved={props.onSaved} />;
}

function BeginWith(props: { at: ScriptName; version: Version; onSaved: (id: string) => void }) {
  const { at, version } = props;
  const key = { ...at, version: version.id };
  const storage = tabStorage();
  const modules = useMemo(() => modulesOf(version), [version]);
  const clean = useMemo(() => workOf(version, modules), [version]);
  const [draft, setDraft] = useState(() => findDraft(storage, keyOf(key), isDraft));
  const [restored, setRestored] = useState<Work>();
  if (draft && !restored) {
    return <DraftChoice draft={draft} version={version} onRestore={() => setRestored(workOfDraft(draft, modules))}
      onDiscard={() => { dropDraft(storage, keyOf(key)); setDraft(undefined); }} />;
  }
  return (
    <div class="stack">
      {otherDrafts(storage, key).map((d) => (
        <Note key={d.version}><p>There is a draft made of {d.draft.version}, from {formatAge(new Date(d.draft.at), now.value)}: <a href={`${addressOf(at, "edit")}?from=${d.version}`}>go on with it</a>.</p></Note>
      ))}
      <Workbench at={at} version={version} clean={clean} begin={restored ?? clean} onSaved={props.onSaved} />
    </div>
  );
}

function DraftChoice(props: { draft: Draft; version: Version; onRestore: () => void; onDiscard: () => void }) {
  const { draft } = props;
  const name = isTemplate(props.version) ? "the template" : nameOf(props.version);
  return (
    <section class="panel stack" aria-labelledby="draft">
      <h2 id="draft">You have a draft made of {name}</h2>
      <p>It was last changed {formatAge(new Date(draft.at), now.value)}, in this browser tab, and is in no version yet.</p>
      <div class="row">
        <Button look="primary" onClick={props.onRestore}>Restore draft</Button>
        <Button onClick={props.onDiscard}>Discard it, and begin with {name}</Button>
      </div>
    </section>
  );
}
