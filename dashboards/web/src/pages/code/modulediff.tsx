// The code of two versions beside each other, module by module.
import { useEffect, useMemo, useState } from "preact/hooks";
import { formatBytes } from "../../lib/format";
import { useSearch } from "../../lib/url";
import { CheckField, Segments } from "../../ui/basics";
import type { Look } from "./cm/view";
import { Differences } from "./codeview";
import { compareModules, type ModuleChange } from "./moduledifference";
import { languageOf, modulesOf, textOf, typeName, type Module } from "./modules";
import { namerOf } from "./names";
import { ChangeBadge } from "./parts";
import type { Version } from "./settings";

export function ModuleDifferences(props: { before: Version; after: Version }) {
  const { before, after } = props;
  const search = useSearch();
  const all = useMemo(() => compareModules(modulesOf(before), modulesOf(after)), [before, after]);
  const narrow = useNarrow();
  const chosen = search.get("view");
  const unified = chosen === "unified" || (narrow && chosen !== "split");
  const look = { unified, whole: search.get("whole") === "true" };
  const changed = all.filter((c) => c.change !== "same").length;
  const shown = all.find((c) => c.name === search.get("module")) ?? all[0];
  return (
    <section class="panel stack" aria-labelledby="code">
      <div class="row spread">
        <h2 id="code">Code</h2>
        <div class="row">
          <CheckField label="Also what is the same" checked={look.whole} onChange={(whole) => search.set({ whole: whole ? "true" : undefined }, "replace")} />
          <Segments label="How differences are shown" options={[["split", "Side by side"], ["unified", "One column"]] as const} value={unified ? "unified" : "split"}
            onChange={(view) => search.set({ view }, "replace")} />
        </div>
      </div>
      <p class="quiet small">{changed === 0 ? "All modules are the same." : `${changed} of ${all.length} modules ${changed === 1 ? "differs" : "differ"}.`}</p>
      <ul class="code-modules">
        {all.map((c) => (
          <li key={c.name}>
            <a href={search.link({ module: c.name })} aria-current={c === shown ? "true" : undefined}><code>{c.name}</code></a> <ChangeBadge change={c.change} />
          </li>
        ))}
      </ul>
      {shown && <Content change={shown} before={before} after={after} look={look} />}
    </section>
  );
}

function Content(props: { change: ModuleChange; before: Version; after: Version; look: Look }) {
  const { change: c, look } = props;
  const texts = useMemo(() => [c.before && textOf(c.before), c.after && textOf(c.after)] as const, [c]);
  const bytes = (c.before && texts[0] === undefined) || (c.after && texts[1] === undefined);
  const nameOf = namerOf([props.before, props.after]);
  const label = (v: Version): string => `${c.name} in ${nameOf(v)}`;
  return (
    <div class="stack">
      <h3><code>{c.name}</code></h3>
      {c.before && c.after && c.before.contentType !== c.after.contentType && <p>Its type was {typeName(c.before.contentType)} and is {typeName(c.after.contentType)}.</p>}
      {bytes ? <p class="quiet">It is not text. {sizes(c.before, c.after)}</p>
        : c.change === "same" ? <p class="quiet">The module is the same in both versions.</p>
        : (
          <>
            {!look.unified && <div class="code-sides small quiet"><span>{nameOf(props.before)}{!c.before && " (not there)"}</span><span>{nameOf(props.after)}{!c.after && " (not there)"}</span></div>}
            <Differences key={c.name} look={look} sides={{
              before: texts[0] ?? "", after: texts[1] ?? "", beforeLabel: label(props.before), afterLabel: label(props.after),
              language: languageOf(c.name, (c.after ?? c.before)!.contentType),
            }} />
          </>
        )}
    </div>
  );
}

function sizes(before: Module | undefined, after: Module | undefined): string {
  if (!before) return `It is new, with ${formatBytes(after!.bytes.length)}.`;
  if (!after) return `It had ${formatBytes(before.bytes.length)}.`;
  return `It had ${formatBytes(before.bytes.length)} and has ${formatBytes(after.bytes.length)}.`;
}

const narrowScreen = matchMedia("(max-width: 60rem)");

/** Whether there is no room for two columns of code. */
function useNarrow(): boolean {
  const [narrow, setNarrow] = useState(narrowScreen.matches);
  useEffect(() => {
    const listen = (): void => setNarrow(narrowScreen.matches);
    narrowScreen.addEventListener("change", listen);
    return () => narrowScreen.removeEventListener("change", listen);
  }, []);
  return narrow;
}
