// What differs between two versions: bindings and settings, and the code.
import { useEffect, useMemo, useState } from "preact/hooks";
import { useRoute } from "preact-iso";
import { useQuery } from "../../lib/query";
import { useSearch, type Search } from "../../lib/url";
import { Button, CheckField, Empty, Loading, Problem, SelectField } from "../../ui/basics";
import { ScriptPage } from "../../ui/page";
import { Table } from "../../ui/table";
import { ModuleDifferences } from "./modulediff";
import { isWorker, listVersions, useVersion, type ScriptName } from "./data";
import { namerOf } from "./names";
import { ChangeBadge } from "./parts";
import { compareSettings, type Setting, type SettingChange, type Version } from "./settings";
import "../../styles/code.css";

/** The API's bound of a page. */
const choicesMax = 100;

export default function Diff() {
  const { account, script } = useRoute().params as { account: string; script: string };
  const at = { account, script };
  const search = useSearch();
  const choices = useQuery(`choices ${account} ${script}`, (signal) => listVersions(at, 1, choicesMax, signal));
  const list = choices.data?.items;
  // Without a choice: what the newest version changed.
  const from = search.get("from") ?? list?.[1]?.id, to = search.get("to") ?? list?.[0]?.id;
  const before = useVersion(at, from), after = useVersion(at, to);
  const one = list !== undefined && list.length < 2 && (from === undefined || to === undefined);
  return (
    <ScriptPage account={account} script={script} title="What differs">
      <div class="stack">
        <Problem error={choices.error} what="The list of versions could not be read." retry={choices.reload} />
        {one ? <Empty title="There is nothing to compare yet"><p>{script} has fewer than two versions. Save another one, and what it changes is shown here.</p></Empty>
          : <Choice search={search} list={list ?? []} from={from} to={to} loaded={[before.data, after.data]} />}
        <Problem error={before.error} what="The earlier version could not be read." retry={before.reload} />
        <Problem error={after.error} what="The later version could not be read." retry={after.reload} />
        {(before.loading || after.loading) && !one && <Loading what="both versions" />}
        {before.data && after.data && <Both at={at} before={before.data} after={after.data} />}
      </div>
    </ScriptPage>
  );
}

function Choice(props: { search: Search; list: Version[]; from: string | undefined; to: string | undefined; loaded: (Version | undefined)[] }) {
  const { search, from, to } = props;
  const known = [...props.list, ...props.loaded.filter((v) => v !== undefined)];
  const nameOf = namerOf(known);
  const options = [...new Map(known.map((v) => [v.id, v])).values()].sort((a, b) => b.number - a.number)
    .map((v) => [v.id, `${v.number} · ${nameOf(v)}`] as const);
  const choose = (name: string) => (id: string): void => search.set({ from, to, module: undefined, [name]: id });
  return (
    <div class="code-choice">
      <SelectField label="From version" value={from ?? ""} options={options} onChange={choose("from")} />
      <SelectField label="To version" value={to ?? ""} options={options} onChange={choose("to")} />
      <Button onClick={() => search.set({ from: to, to: from, module: undefined })}>Swap</Button>
    </div>
  );
}

function Both(props: { at: ScriptName; before: Version; after: Version }) {
  const { before, after } = props;
  const nameOf = namerOf([before, after]);
  if (before.id === after.id) return <Empty title="The same version twice"><p>Choose another one to see what differs.</p></Empty>;
  return (
    <>
      <Settings before={before} after={after} />
      {isWorker(before) && isWorker(after) ? <ModuleDifferences before={before} after={after} /> : (
        <section class="panel"><h2>Code</h2><p class="quiet">{[before, after].filter((v) => !isWorker(v)).map(nameOf).join(" and ")} {isWorker(before) || isWorker(after) ? "is an origin" : "are origins"}: there is no code to compare.</p></section>
      )}
    </>
  );
}

function Settings(props: { before: Version; after: Version }) {
  const { before, after } = props;
  const nameOf = namerOf([before, after]);
  const all = useMemo(() => compareSettings(before, after), [before, after]);
  const [whole, setWhole] = useState(false);
  useEffect(() => setWhole(false), [before, after]);
  const rows = whole ? all : all.filter((c) => c.change !== "same");
  const same = all.filter((c) => c.change === "same").length;
  return (
    <section class="panel stack" aria-labelledby="settings">
      <div class="row spread">
        <h2 id="settings">Bindings and settings</h2>
        {same > 0 && <CheckField label={`Show ${same} that are the same`} checked={whole} onChange={setWhole} />}
      </div>
      {rows.length === 0 ? <p class="quiet">Nothing differs but the code.</p> : (
        <Table caption="Bindings and settings" rows={rows} rowKey={(c) => `${c.group} ${c.name}`} columns={[
          { name: "Name", heading: true, cell: (c) => c.group === "Binding" ? <code>{c.name}</code> : c.name },
          { name: "What", cell: (c) => kindOf(c) },
          { name: "Change", cell: (c) => <ChangeBadge change={c.change} /> },
          { name: `In ${nameOf(before)}`, cell: (c) => <Value setting={c.before} /> },
          { name: `In ${nameOf(after)}`, cell: (c) => <Value setting={c.after} /> },
        ]} />
      )}
      {rows.some((c) => c.change === "unknown") && <p class="small quiet">Whether a secret has another value is not known: nobody is shown one.</p>}
    </section>
  );
}

function kindOf(c: SettingChange): string {
  if (c.group !== "Binding") return c.group;
  const kinds = [...new Set([c.before?.kind, c.after?.kind].filter(Boolean))];
  return `Binding, ${kinds.join(" → ")}`;
}

function Value(props: { setting: Setting | undefined }) {
  const { setting } = props;
  if (!setting) return <span class="quiet">–</span>;
  if (setting.value === undefined) return <span class="quiet">•••••• hidden</span>;
  return <code class="code-text">{setting.value === "" ? "(empty)" : setting.value}</code>;
}
