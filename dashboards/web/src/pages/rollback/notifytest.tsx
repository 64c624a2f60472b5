// Sends a test message to who would be told, and says what came of it.
import { useState } from "preact/hooks";
import { useAction } from "../../lib/query";
import { Badge, Button, Problem } from "../../ui/basics";
import { Table } from "../../ui/table";
import { testNotify, type NotifyResult } from "./api";

export function NotifyTest(props: { account: string; script: string; targets: number; changed: boolean }) {
  const [results, setResults] = useState<NotifyResult[] | undefined>();
  const test = useAction(async () => {
    setResults(undefined);
    setResults(await testNotify(props.account, props.script));
  });
  return (
    <section class="panel" aria-labelledby="notify-test">
      <h2 id="notify-test">Test who is told</h2>
      <div class="stack">
        <p class="quiet">Sends a message marked as a test to {props.targets === 1 ? "the one target" : `all ${props.targets} targets`} of the policy that is saved{props.changed ? ", not to what stands in the fields" : ""}. It takes 15 seconds at most.</p>
        <div><Button busy={test.busy} onClick={() => void test.run()}>Send a test message</Button></div>
        <Problem error={test.error} />
        <div role="status">
          {results && (
            <Table caption="What came of the test messages" rows={results} rowKey={(r) => `${r.type} ${r.target}`} columns={[
              { name: "To", heading: true, cell: (r) => <>{r.target} <span class="quiet">{r.type}</span></> },
              { name: "Result", cell: (r) => <Badge tone={r.ok ? "good" : "bad"}>{r.ok ? "Taken" : "Failed"}</Badge> },
              { name: "Why", cell: (r) => r.error ?? "–" },
            ]} />
          )}
        </div>
      </div>
    </section>
  );
}
