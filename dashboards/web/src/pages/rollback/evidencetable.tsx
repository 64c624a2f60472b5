// What the test of each limit says, as a table.
import { formatRate } from "../../lib/format";
import { Table } from "../../ui/table";
import { lies, limitWords, seen, strength, type Evidence } from "./evidence";
import { limitName, perOne } from "./limits";

export function EvidenceTable(props: { evidence: Evidence[]; blocks: boolean }) {
  return (
    <Table caption="What the test of each limit says" rows={props.evidence} rowKey={(e) => e.metric} columns={[
      { name: "Limit", heading: true, cell: (e) => <span class="words">{limitName(e.metric)} <span class="quiet">{limitWords(e)}</span></span> },
      { name: "Evidence", number: true, cell: (e) => <span class="nowrap">{strength(e)}</span> },
      { name: "Seen", cell: (e) => <span class="words">{seen(e, props.blocks)}</span> },
      { name: "Shown to be", cell: (e) => <span class="words">{lies(e)}</span> },
      { name: "Chance, if it keeps the limit", number: true, cell: (e) => (e.p_value > 0.5 ? formatRate(e.p_value) : `1 in ${perOne(e.p_value)}`) },
    ]} />
  );
}
