// The modules of a version: their sizes, and the code of one of them.
import { useMemo } from "preact/hooks";
import { formatBytes } from "../../lib/format";
import { useSearch } from "../../lib/url";
import { Badge, Note } from "../../ui/basics";
import { Table } from "../../ui/table";
import { CodeView } from "./codeview";
import { languageOf, modulesOf, textOf, totalBytes, typeName, type Module } from "./modules";
import { nameOf } from "./names";
import type { Version } from "./settings";

export function ModuleList(props: { version: Version }) {
  const { version } = props;
  const search = useSearch();
  const modules = useMemo(() => modulesOf(version), [version]);
  const main = version.main_module ?? modules[0]?.name;
  const shown = modules.find((m) => m.name === (search.get("module") ?? main));
  return (
    <section class="panel stack" aria-labelledby="modules">
      <div class="row spread">
        <h2 id="modules">Modules</h2>
        <span class="small quiet">{modules.length} {modules.length === 1 ? "module" : "modules"}, {formatBytes(totalBytes(modules))}</span>
      </div>
      <Table caption="Modules" rows={modules} rowKey={(m) => m.name} columns={[
        {
          name: "Name", heading: true, cell: (m) => (
            <span class="row">
              <a href={search.link({ module: m.name })} aria-current={m === shown ? "true" : undefined}><code>{m.name}</code></a>
              {m.name === version.main_module && <Badge tone="accent">main</Badge>}
            </span>
          ),
        },
        { name: "Type", cell: (m) => typeName(m.contentType) },
        { name: "Size", number: true, cell: (m) => formatBytes(m.bytes.length) },
      ]} />
      {version.main_module === undefined && <Note>This script is in service-worker syntax: it listens for events, and has no main module.</Note>}
      {shown && <Content module={shown} version={version} />}
    </section>
  );
}

function Content(props: { module: Module; version: Version }) {
  const { module, version } = props;
  const text = useMemo(() => textOf(module), [module]);
  return (
    <div class="stack">
      <h3><code>{module.name}</code></h3>
      {text === undefined ? <p class="quiet">{typeName(module.contentType)}, {formatBytes(module.bytes.length)}: it is not text, so there is nothing to read.</p>
        : text === "" ? <p class="quiet">The module is empty.</p>
        : <CodeView key={module.name} text={text} label={`Code of ${module.name} in ${nameOf(version)}`} language={languageOf(module.name, module.contentType)} />}
    </div>
  );
}
