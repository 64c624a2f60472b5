// Everything of one version.
import { useRoute } from "preact-iso";
import type { ComponentChildren } from "preact";
import { get, scriptPath, type Schemas } from "../../api/client";
import { formatMillis } from "../../lib/format";
import { useQuery } from "../../lib/query";
import { full, shareOf } from "../../lib/split";
import { may } from "../../session";
import { Badge, Copy, LinkButton, Loading, Problem, Time } from "../../ui/basics";
import { ScriptPage } from "../../ui/page";
import { Table } from "../../ui/table";
import "../../styles/code.css";
import { addressOf, isWorker, mainVersion, useDeployment, useVersion, type Deployment, type ScriptName } from "./data";
import { ModuleList } from "./modulelist";
import { Traffic } from "./parts";
import { bindingKind, bindingValue, settingsOf, type Binding, type Version } from "./settings";

export default function VersionPage() {
  const { account, script, id } = useRoute().params as { account: string; script: string; id: string };
  const at = { account, script };
  const version = useVersion(at, id);
  const summary = useQuery(`summary ${account} ${script} ${id}`, (signal) => get<Schemas["Version"]>(scriptPath(account, script, "versions", id), { signal }));
  const deployment = useDeployment(at);
  const v = version.data;
  return (
    <ScriptPage account={account} script={script} title={v ? `Version ${v.number}${v.annotations["workers/tag"] ? ` · ${v.annotations["workers/tag"]}` : ""}` : "Version"}
      actions={v && <Actions at={at} version={v} deployment={deployment.data} />}>
      <div class="stack">
        <Problem error={version.error} what="The version could not be read." retry={version.reload} />
        <Problem error={deployment.error} what="Whether it serves could not be read." older={deployment.data !== undefined} retry={deployment.reload} />
        {!v && version.loading && <Loading what="the version" />}
        {v && <Facts version={v} deployment={deployment.data} />}
        {v && isWorker(v) && (
          <>
            <div class="columns">
              <Bindings at={at} version={v} />
              <Runtime version={v} script={summary.data?.resources?.script} error={summary.error} />
            </div>
            <ModuleList version={v} />
          </>
        )}
        {v && !isWorker(v) && <Origin version={v} />}
      </div>
    </ScriptPage>
  );
}

function Actions(props: { at: ScriptName; version: Version; deployment: Deployment | null | undefined }) {
  const { at, version, deployment } = props;
  const most = mainVersion(deployment);
  const other = most !== undefined && most !== version.id;
  return (
    <>
      {other && <LinkButton href={`${addressOf(at, "diff")}?from=${most}&to=${version.id}`}>Diff with what serves</LinkButton>}
      {other && <LinkButton href={`${addressOf(at, "compare")}?baseline=${most}&candidate=${version.id}`}>Compare traffic</LinkButton>}
      {isWorker(version) && <LinkButton href={`${addressOf(at, "edit")}?from=${version.id}`}>Edit from here</LinkButton>}
      {may("scripts:edit") && shareOf(deployment?.versions ?? [], version.id) !== full && <LinkButton look="primary" href={`${addressOf(at)}?promote=${version.id}`}>Promote</LinkButton>}
    </>
  );
}

const causes: Record<string, string> = {
  upload: "Uploaded and deployed", version_upload: "Uploaded", secret: "A secret changed",
};

function Facts(props: { version: Version; deployment: Deployment | null | undefined }) {
  const { version: v, deployment } = props;
  const { "workers/message": message, "workers/alias": alias, "workers/triggered_by": cause } = v.annotations;
  return (
    <section class="panel stack" aria-label="About this version">
      {message && <p class="code-text">{message}</p>}
      <dl class="facts">
        <div><dt>Traffic now</dt><dd>{deployment === undefined ? "–" : <Traffic share={shareOf(deployment?.versions ?? [], v.id)} />}</dd></div>
        <div><dt>Created</dt><dd><Time at={v.created_on} /> <span class="quiet small"><Time at={v.created_on} absolute /></span></dd></div>
        <div><dt>Author</dt><dd>{v.author_email || "–"}</dd></div>
        <div><dt>Source</dt><dd>{v.source}{cause && <span class="quiet small"> {causes[cause] ?? cause}</span>}</dd></div>
        {v.startup_time_ms !== undefined && <div><dt>Start, when it was uploaded</dt><dd>{formatMillis(v.startup_time_ms)}</dd></div>}
        {alias && <div><dt>Preview alias</dt><dd>{alias}</dd></div>}
      </dl>
      <p class="row small"><span class="quiet">Id</span> <code class="code-text">{v.id}</code> <Copy text={v.id} what="the id of the version" /></p>
      {v.urls.length > 0 && <p class="small"><span class="quiet">Preview</span> {v.urls.map((url) => <a key={url} class="code-text" href={url} target="_blank" rel="noreferrer">{url}</a>)}</p>}
    </section>
  );
}

function Bindings(props: { at: ScriptName; version: Version }) {
  const { at, version } = props;
  return (
    <section class="panel" aria-labelledby="bindings">
      <h2 id="bindings">Bindings</h2>
      {version.bindings.length === 0 ? <p class="quiet">The code gets no bindings in its <code>env</code>.</p> : (
        <Table caption="Bindings" rows={version.bindings} rowKey={(b) => b.name} columns={[
          { name: "Name", heading: true, cell: (b) => <code>{b.name}</code> },
          { name: "Type", cell: (b) => bindingKind(b) },
          { name: "Value", cell: (b) => <BindingValue at={at} binding={b} /> },
        ]} />
      )}
    </section>
  );
}

function BindingValue(props: { at: ScriptName; binding: Binding }) {
  const { at, binding } = props;
  const value = bindingValue(binding);
  if (value === undefined) return <span class="quiet">•••••• hidden</span>;
  if (binding.type === "service" && binding.service) {
    const rest = value.slice(binding.service.length);
    return <span class="code-text"><a href={addressOf({ ...at, script: binding.service })}>{binding.service}</a>{rest}</span>;
  }
  return binding.type === "plain_text" || binding.type === "json" ? <code class="code-text">{value === "" ? "(empty)" : value}</code> : <span class="code-text">{value}</span>;
}

type Script = NonNullable<Schemas["Version"]["resources"]>["script"];

function Runtime(props: { version: Version; script: Script | undefined; error: unknown }) {
  const { version, script } = props;
  const rows: [string, ComponentChildren][] = [
    ["Handlers", script ? <Names names={script.handlers} /> : "–"],
    ...(script?.named_handlers ?? []).map((h): [string, ComponentChildren] => [`Entry point ${h.name}`, <Names names={h.handlers} />]),
    ...settingsOf(version).filter((s) => s.group === "Runtime" && !s.name.startsWith("Compatibility flag")).map((s): [string, ComponentChildren] => [s.name, <code class="code-text">{s.value}</code>]),
    ["Compatibility flags", <Names names={version.compatibility_flags} />],
    ...(script?.etag ? [["Code’s hash", <code class="code-text">{script.etag}</code>] as [string, ComponentChildren]] : []),
  ];
  return (
    <section class="panel" aria-labelledby="runtime">
      <h2 id="runtime">Runtime</h2>
      <Problem error={props.error} what="The handlers are not known." />
      <dl class="code-list">{rows.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
    </section>
  );
}

function Names(props: { names: readonly string[] }) {
  if (props.names.length === 0) return <span class="quiet">none</span>;
  return <span class="row code-names">{props.names.map((n) => <Badge key={n}>{n}</Badge>)}</span>;
}

function Origin(props: { version: Version }) {
  const rows = settingsOf(props.version);
  return (
    <section class="panel stack" aria-labelledby="origin">
      <h2 id="origin">Origin</h2>
      <p class="quiet">Requests go to a server of yours: this version has no code here.</p>
      <dl class="code-list">{rows.map((s) => <div key={s.name}><dt>{s.name}</dt><dd><code class="code-text">{s.value}</code></dd></div>)}</dl>
    </section>
  );
}
