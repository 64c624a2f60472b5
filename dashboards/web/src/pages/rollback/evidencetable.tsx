// What the test of each limit says, as a table.
import { Table } from "../../ui/table";
import { chance, lies, limitWords, seen, strength, type Evidence } from "./evidence";
import { limitName } from "./limits";

export function EvidenceTable(props: { evidence: Evidence[]; blocks: boolean }) {
  return (
    <Table caption="What the test of each limit says" rows={props.evidence} rowKey={(e) => e.metric} columns={[
      { name: "Limit", heading: true, cell: (e) => <span class="words">{limitName(e.metric)} <span class="quiet">{limitWords(e)}</span></span> },
      { name: "Evidence", number: true, cell: (e) => <span class="nowrap">{strength(e)}</span> },
      { name: "Seen", cell: (e) => <span class="words">{seen(e, props.blocks)}</span> },
      { name: "Shown to be", cell: (e) => <span class="words">{lies(e)}</span> },
      { name: "Chance, if it keeps the limit", number: true, cell: (e) => chance(e.p_value) },
    ]} />
  );
}
