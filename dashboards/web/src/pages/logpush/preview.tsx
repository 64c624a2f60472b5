// What a job would send of recent events, to the byte. Nothing is sent.
import { useState } from "preact/hooks";
import { call } from "../../api/client";
import { formatBytes, formatCount } from "../../lib/format";
import { useAction } from "../../lib/query";
import { Badge, Button, Copy, Note, Problem, SelectField, TextField } from "../../ui/basics";
import { byteLength } from "./filter";
import { jobPath, logpushPath, type Preview } from "./api";
import { dataset, type JobBody } from "./draft";

/** More than a person reads, and a browser lays out at once. */
const shownMax = 64 * 1024;

interface Props {
  account: string;
  /** Of a stored job. */
  id?: string | undefined;
  body: JobBody;
  onError: (error: unknown) => void;
}

export function PreviewPanel(props: Props) {
  const [limit, setLimit] = useState("100");
  const [own, setOwn] = useState("");
  const [result, setResult] = useState<{ of: string; preview: Preview }>();
  const of = JSON.stringify([props.body, limit, own]);
  const run = useAction(async () => {
    try {
      // Neither can matter before the job is stored.
      const { start: _, ownership_challenge: __, ...settings } = props.body;
      const body = { ...settings, dataset, ...(own.trim() === "" ? { limit: Number(limit) } : { events: readEvents(own) }) };
      if (body.destination_conf === "") delete body.destination_conf;
      const url = props.id ? jobPath(props.account, props.id, "test") : logpushPath(props.account, "test");
      setResult({ of, preview: await call<Preview>("POST", url, { body }) });
      props.onError(undefined);
    } catch (error) {
      props.onError(error);
      throw error;
    }
  });
  return (
    <section class="panel" aria-labelledby="preview">
      <h2 id="preview">Preview</h2>
      <div class="stack">
        <p class="small quiet">Exactly the bytes that would be sent, before they are compressed. Nothing is sent.</p>
        <div class="row logpush-end">
          <SelectField label="Newest events to look at" value={limit} onChange={setLimit} options={[["10", "10"], ["100", "100"], ["1000", "1,000"]]} />
          <Button busy={run.busy} onClick={() => void run.run()}>{result ? "Update the preview" : "Show the preview"}</Button>
          {result && result.of !== of && <Badge tone="warn">The settings have changed since</Badge>}
        </div>
        <details>
          <summary>Try it on events of your own</summary>
          <div class="logpush-details"><TextField label="Events" mono rows={4} value={own} onInput={setOwn} hint="One JSON object a line, in the dataset’s fields. Without any, the newest events of the account are read." placeholder={`{"Outcome":"exception","ScriptName":"shop","EventTimestampMs":1774000000000}`} /></div>
        </details>
        <Problem error={run.error} what="There is no preview." />
        {result && <Result preview={result.preview} />}
      </div>
    </section>
  );
}

function readEvents(text: string): unknown[] {
  return text.split("\n").filter((line) => line.trim() !== "").map((line, i) => {
    try {
      return JSON.parse(line) as unknown;
    } catch (error) {
      throw new Error(`Event ${i + 1} is not JSON: ${(error as Error).message}`);
    }
  });
}

const reasons: [reason: keyof Preview["dropped"], text: string][] = [
  ["filter", "left out by the filter"], ["sample", "left out by the sampling rate"], ["logpush_disabled", "of scripts that opted out of Logpush"],
  ["deleted", "deleted by request"], ["malformed", "not readable"],
];

function Result(props: { preview: Preview }) {
  const { preview: p } = props;
  const dropped = reasons.filter(([reason]) => p.dropped[reason] > 0).map(([reason, text]) => `${formatCount(p.dropped[reason])} ${text}`);
  return (
    <div class="stack" role="status">
      <p>
        Of {formatCount(p.looked_at)} events {formatCount(p.sent)} would be sent{dropped.length > 0 && `; ${dropped.join(", ")}`}.
        {p.truncated > 0 && ` Logs or exceptions of ${formatCount(p.truncated)} are cut to their bound.`}
      </p>
      {p.looked_at === 0 && <Note>There are no recent events in this account: send a request to a Worker, or try events of your own.</Note>}
      {p.objects.map((o) => <ObjectView key={o.name} object={o} />)}
    </div>
  );
}

function ObjectView(props: { object: Preview["objects"][number] }) {
  const { object: o } = props;
  const text = o.output_base64 ?? o.output;
  const cut = text.length > shownMax;
  return (
    <article class="stack logpush-object">
      <div class="row spread">
        <div><code class="logpush-destination">{o.name}</code><div class="small quiet">{formatCount(o.records)} records, {formatBytes(byteLength(o.output))}, {o.content_type}</div></div>
        <Copy text={text} what={`the output of ${o.name}`} />
      </div>
      {o.one_by_one && <p class="small quiet">The destination takes records one by one and puts its own around them, which is not shown.</p>}
      {o.output_base64 && <p class="small quiet">The bytes are not UTF-8: they are shown as Base64.</p>}
      <pre class="logpush-output" tabIndex={0} aria-label={`Output of ${o.name}`}>{cut ? text.slice(0, shownMax) : text}</pre>
      {cut && <p class="small quiet">These are the first {formatBytes(shownMax)}; a copy has all of it.</p>}
    </article>
  );
}
