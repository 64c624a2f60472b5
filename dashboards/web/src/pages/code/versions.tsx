// All versions of a script: what they are, where they serve, and what can be done with each.
import { useState } from "preact/hooks";
import { useRoute } from "preact-iso";
import { formatCount } from "../../lib/format";
import { useQuery } from "../../lib/query";
import { full, shareOf } from "../../lib/split";
import { useSearch } from "../../lib/url";
import { tagOf } from "../../lib/versions";
import { may } from "../../session";
import { Button, Empty, LinkButton, Loading, Problem, Time, VersionName } from "../../ui/basics";
import { Pager, pageOf } from "../../ui/pager";
import { ScriptPage } from "../../ui/page";
import { Table, type Column } from "../../ui/table";
import "../../styles/code.css";
import { addressOf, isWorker, listVersions, mainVersion, useDeployment, type Deployment, type ScriptName } from "./data";
import { namerOf, type Named } from "./names";
import { Traffic } from "./parts";
import type { Version } from "./settings";

const perPage = 25;

export default function Versions() {
  const { account, script } = useRoute().params as { account: string; script: string };
  const at = { account, script };
  const page = pageOf(useSearch().get);
  const versions = useQuery(`versions ${account} ${script} ${page}`, (signal) => listVersions(at, page, perPage, signal), { every: 10_000 });
  const deployment = useDeployment(at);
  const [picked, setPicked] = useState<Version[]>([]);
  const pick = (version: Version): void => setPicked((list) => (list.some((v) => v.id === version.id) ? list.filter((v) => v.id !== version.id) : [...list.slice(-1), version]));
  const items = versions.data?.items;
  const name = namerOf([...(items ?? []), ...picked], (versions.data?.info?.total_count ?? 0) > perPage);
  return (
    <ScriptPage account={account} script={script} title="Versions" actions={may("scripts:edit") && <LinkButton href={addressOf(at, "edit")} look="primary">Edit the newest</LinkButton>}>
      <div class="stack">
        <Problem error={versions.error} what="The versions could not be read." retry={versions.reload} />
        <Problem error={deployment.error} what="Which versions serve could not be read." older={deployment.data !== undefined} retry={deployment.reload} />
        {!items && versions.loading && <Loading what="versions" />}
        {items?.length === 0 && page === 1 && (
          <Empty title="No version yet">
            <p>Upload one with <code>wrangler versions upload</code>, or <a href={addressOf(at, "edit")}>write the first one</a> here.</p>
          </Empty>
        )}
        {items && items.length > 0 && (
          <>
            <Picked at={at} picked={picked} nameOf={name} clear={() => setPicked([])} />
            <Table caption={`Versions of ${script}`} rows={items} rowKey={(v) => v.id} columns={columns(at, deployment.data, name, picked, pick)} />
          </>
        )}
        <Pager info={versions.data?.info} what="versions" />
      </div>
    </ScriptPage>
  );
}

function Picked(props: { at: ScriptName; picked: Version[]; nameOf: (v: Named) => string; clear: () => void }) {
  const { nameOf } = props;
  const [from, to] = props.picked.toSorted((a, b) => a.number - b.number);
  return (
    <div class="row code-picked" role="status">
      {!from && <span class="small quiet">Pick two versions to see what differs between them.</span>}
      {from && !to && <span class="small">Picked {nameOf(from)}: pick another one.</span>}
      {from && to && <LinkButton compact href={`${addressOf(props.at, "diff")}?from=${from.id}&to=${to.id}`}>Show what differs from {nameOf(from)} to {nameOf(to)}</LinkButton>}
      {from && <Button compact look="plain" onClick={props.clear}>Pick none</Button>}
    </div>
  );
}

function columns(at: ScriptName, deployment: Deployment | null | undefined, nameOf: (v: Named) => string, picked: Version[], pick: (v: Version) => void): Column<Version>[] {
  const page = (v: Version): string => addressOf(at, "versions", v.id);
  return [
    {
      name: "Picked for a comparison", quiet: true, cell: (v) => (
        <input type="checkbox" aria-label={`Pick version ${v.number}, ${nameOf(v)}`} checked={picked.some((p) => p.id === v.id)} onChange={() => pick(v)} />
      ),
    },
    { name: "Number", number: true, cell: (v) => formatCount(v.number) },
    { name: "Version", heading: true, cell: (v) => <><VersionName id={v.id} tag={tagOf(v)} href={page(v)} />{saidOf(v) && <span class="code-message" title={saidOf(v)}>{saidOf(v)}</span>}</> },
    { name: "Traffic", cell: (v) => deployment === undefined ? "" : <Traffic share={shareOf(deployment?.versions ?? [], v.id)} /> },
    { name: "Author", cell: (v) => <>{v.author_email || "–"}<span class="code-second">{v.source}</span></> },
    { name: "Created", cell: (v) => <Time at={v.created_on} /> },
    { name: "Actions", quiet: true, cell: (v) => <Actions at={at} version={v} name={nameOf(v)} deployment={deployment} /> },
  ];
}

/** What is said of a version: its message, and of an origin where its requests go. */
function saidOf(version: Version): string {
  const { url, endpoints } = version.origin ?? {};
  const to = url ?? (endpoints && `${endpoints.length} endpoints`);
  return [to && `Origin ${to}`, version.annotations["workers/message"]].filter(Boolean).join(": ");
}

function Actions(props: { at: ScriptName; version: Version; name: string; deployment: Deployment | null | undefined }) {
  const { at, version, name, deployment } = props;
  const most = mainVersion(deployment);
  return (
    <span class="code-actions">
      {isWorker(version) && <a href={`${addressOf(at, "edit")}?from=${version.id}`} aria-label={`Edit from ${name}`}>Edit</a>}
      {may("scripts:edit") && shareOf(deployment?.versions ?? [], version.id) !== full && <a href={`${addressOf(at)}?promote=${version.id}`} aria-label={`Promote ${name}`}>Promote</a>}
      {most !== undefined && most !== version.id && (
        <>
          <a href={`${addressOf(at, "diff")}?from=${most}&to=${version.id}`} aria-label={`Diff of the version that serves and ${name}`}>Diff</a>
          <a href={`${addressOf(at, "compare")}?baseline=${most}&candidate=${version.id}`} aria-label={`Compare the traffic of ${name} with that of the version that serves`}>Compare</a>
        </>
      )}
    </span>
  );
}
