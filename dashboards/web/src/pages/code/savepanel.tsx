// What the new version is to be beside its code, and saving it.
import { useState } from "preact/hooks";
import { Button, Confirm, Loading, Problem, TextField } from "../../ui/basics";
import { useQuery } from "../../lib/query";
import { Table } from "../../ui/table";
import { versionNames } from "../workers/versions";
import { currentDeployment, listVersions, type Deployment, type ScriptName } from "./data";
import { isTemplate } from "./first";
import { namerOf } from "./names";
import { bindingKind, type Version } from "./settings";
import type { Work } from "./work";

interface Props {
  at: ScriptName;
  base: Version;
  newest: Version;
  work: Work;
  /** Whether there is something to save. */
  savable: boolean;
  busy: boolean;
  readOnly: boolean;
  onChange: (changes: Partial<Work>) => void;
  onSave: () => void;
  /** Saves, and gives all traffic to the result if `deployment` still is the one that serves. */
  onDeploy: (deployment: Deployment | null) => void;
}

export function SavePanel(props: Props) {
  const { work, base, newest, readOnly } = props;
  const [asking, setAsking] = useState(false);
  return (
    <form class="panel stack code-save" aria-label="The new version" onSubmit={(e) => { e.preventDefault(); props.onSave(); }}>
      <h2>The new version</h2>
      {!readOnly && (
        <>
          <TextField label="Tag" value={work.tag} onInput={(tag) => props.onChange({ tag })} placeholder="v5" hint="A short name. May stay empty." />
          <TextField label="Message" rows={2} value={work.message} onInput={(message) => props.onChange({ message })} hint="What changes, and why." />
        </>
      )}
      <TextField label="Compatibility date" mono value={work.compatibilityDate} onInput={(compatibilityDate) => props.onChange({ compatibilityDate })} placeholder="2026-01-31" />
      <TextField label="Compatibility flags" mono value={work.compatibilityFlags} onInput={(compatibilityFlags) => props.onChange({ compatibilityFlags })} hint="Separated by spaces." />
      <Kept base={base} newest={newest} />
      {!readOnly && (
        <div class="stack code-buttons">
          <Button look="primary" submit busy={props.busy} disabled={!props.savable}>Save as a new version</Button>
          <Button busy={props.busy} disabled={!props.savable} onClick={() => setAsking(true)}>Save and deploy …</Button>
          <p class="small quiet" role="status">{props.busy ? "The runtime tries the code …" : props.savable ? "Saving runs the code once, and changes no traffic." : "Nothing has changed yet."}</p>
        </div>
      )}
      {asking && <DeployDialog at={props.at} onClose={() => setAsking(false)} onConfirm={(d) => { setAsking(false); props.onDeploy(d); }} />}
    </form>
  );
}

function Kept(props: { base: Version; newest: Version }) {
  const { base, newest } = props;
  const nameOf = namerOf([base, newest]);
  const current = new Set(newest.bindings.filter((b) => b.type === "secret_text").map((b) => b.name));
  const rows = [
    ...base.bindings.map((b) => ({ binding: b, from: b.type === "secret_text" && current.has(b.name) ? newest : base })),
    ...newest.bindings.filter((b) => b.type === "secret_text" && !base.bindings.some((o) => o.name === b.name)).map((b) => ({ binding: b, from: newest })),
  ];
  return (
    <details>
      <summary>Keeps {rows.length} {rows.length === 1 ? "binding" : "bindings"}, limits and placement</summary>
      <div class="stack code-kept">
        {rows.length > 0 && (
          <Table caption="Bindings of the new version" rows={rows} rowKey={(r) => r.binding.name} columns={[
            { name: "Name", heading: true, cell: (r) => <code>{r.binding.name}</code> },
            { name: "Type", cell: (r) => bindingKind(r.binding) },
            { name: "As in", cell: (r) => isTemplate(r.from) ? "the template" : nameOf(r.from) },
          ]} />
        )}
        <p class="small quiet">Secrets have the values of the newest version, where it has them.</p>
      </div>
    </details>
  );
}

function DeployDialog(props: { at: ScriptName; onClose: () => void; onConfirm: (deployment: Deployment | null) => void }) {
  const { at } = props;
  const now = useQuery(`deploy ${at.account} ${at.script}`, async (signal) => {
    const [deployment, versions] = await Promise.all([currentDeployment(at, signal), listVersions(at, 1, 100, signal)]);
    return { deployment, versions: versions.items };
  });
  if (!now.data) {
    return (
      <Confirm title="Save and deploy?" action="Save and deploy" busy onClose={props.onClose} onConfirm={() => {}}>
        {now.error ? <Problem error={now.error} what="What serves now could not be read." retry={now.reload} /> : <Loading what="what serves now" />}
      </Confirm>
    );
  }
  const { deployment, versions } = now.data;
  const { name } = versionNames(versions, deployment ? [deployment] : []);
  const shares = deployment?.versions.map((v) => `${v.percentage} % from ${name(v.version_id)}`).join(" and ");
  return (
    <Confirm title={`Save and deploy to ${at.script}?`} action="Save and deploy at 100 %" onClose={props.onClose} onConfirm={() => props.onConfirm(deployment)}>
      <p>If the code runs, the new version gets <strong>100 %</strong> of the traffic of {at.script} at once{shares ? <>: it takes {shares}</> : ", which nothing serves now"}.</p>
      <p class="quiet">To begin with a small share, save it first, and promote it then.</p>
    </Confirm>
  );
}
