// The form that narrows lists of events. What it says is in the address.
import { useEffect, useState } from "preact/hooks";
import { shortId } from "../../lib/format";
import { Button, SelectField, TextField } from "../../ui/basics";
import { statusProblem, type Filter } from "./filters";
import type { VersionFacts } from "./versions";

const outcomes = ["ok", "exception", "canceled", "responseStreamDisconnected", "internalError", "exceededWallTime", "exceededCpu", "exceededMemory", "unknown"];
const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const ways = ["split", "affinity", "override", "only", "object", "preview"];

/** Choices with "any" before them, and with what the address says even if it is none of them. */
function choices(any: string, list: readonly (readonly [string, string])[], value: string | undefined): (readonly [string, string])[] {
  const other = value !== undefined && !list.some(([v]) => v === value) ? [[value, value] as const] : [];
  return [["", any], ...list, ...other];
}

const same = (list: readonly string[]) => list.map((v) => [v, v] as const);

export function FilterBar(props: { filter: Filter; versions: Map<string, VersionFacts> | undefined; onChange: (changes: Record<string, string | undefined>) => void; onClear: () => void }) {
  const { filter, onChange } = props;
  const [status, setStatus] = useState(filter.status ?? "");
  const [text, setText] = useState(filter.text ?? "");
  // Links and the way back change the address from outside.
  useEffect(() => setStatus(filter.status ?? ""), [filter.status]);
  useEffect(() => setText(filter.text ?? ""), [filter.text]);
  const wrong = statusProblem(status);
  const versions = [...(props.versions?.values() ?? [])].map((v) => [v.id, v.tag ? `${v.name} · ${shortId(v.id)}` : v.name] as const);
  const apply = (): void => {
    if (wrong === undefined && (status !== (filter.status ?? "") || text !== (filter.text ?? ""))) onChange({ status: status.replaceAll(" ", "") || undefined, text: text || undefined });
  };
  return (
    <form class="filter-bar" aria-label="Filter events" onSubmit={(e) => { e.preventDefault(); apply(); }} onFocusOut={apply}>
      <SelectField label="Version" value={filter.version ?? ""} options={choices("All versions", versions, filter.version)} onChange={(v) => onChange({ version: v || undefined })} />
      <SelectField label="Result" value={filter.failed ?? ""} options={[["", "Any"], ["true", "Failed"], ["false", "Not failed"]]} onChange={(v) => onChange({ failed: v || undefined })} />
      <SelectField label="Outcome" value={filter.outcome ?? ""} options={choices("Any", same(outcomes), filter.outcome)} onChange={(v) => onChange({ outcome: v || undefined })} />
      <TextField label="Status" value={status} onInput={setStatus} placeholder="5xx, 404, none" error={wrong} />
      <SelectField label="Method" value={filter.method ?? ""} options={choices("Any", same(methods), filter.method)} onChange={(v) => onChange({ method: v || undefined })} />
      <SelectField label="Version was" value={filter.decision ?? ""} options={choices("Any", same(ways), filter.decision)} onChange={(v) => onChange({ decision: v || undefined })} />
      <TextField label="Text in the URL" type="search" value={text} onInput={setText} placeholder="/checkout" />
      <div class="row">
        <Button submit>Apply</Button>
        {Object.keys(filter).length > 0 && <Button look="plain" onClick={props.onClear}>Clear filter</Button>}
      </div>
    </form>
  );
}
