// What each version did in all of the time.
import type { Schemas } from "../../api/client";
import { formatCount, formatMillis, formatRate } from "../../lib/format";
import { VersionName } from "../../ui/basics";
import { Table, type Column } from "../../ui/table";
import type { VersionFacts } from "./versions";

type Rates = Schemas["VersionRates"];

export function Totals(props: { metrics: Schemas["Metrics"]; versions: Map<string, VersionFacts>; base: string }) {
  const facts = (v: Rates): VersionFacts | undefined => props.versions.get(v.version_id);
  const rows = [...props.metrics.versions].sort((a, b) => (facts(b)?.number ?? 0) - (facts(a)?.number ?? 0));
  const columns: Column<Rates>[] = [
    { name: "Version", heading: true, cell: (v) => <VersionName id={v.version_id} tag={v.tag} series={facts(v)?.color} href={facts(v)?.created && `${props.base}/versions/${v.version_id}`} /> },
    { name: "Requests", number: true, cell: (v) => formatCount(v.requests) },
    { name: "Failures", number: true, cell: (v) => formatCount(v.failures) },
    { name: "Failure rate", number: true, cell: (v) => formatRate(v.failure_rate) },
    { name: "Exceptions", number: true, cell: (v) => formatCount(v.exceptions) },
    ...(["2xx", "3xx", "4xx", "5xx"] as const).map((c): Column<Rates> => ({ name: c, number: true, cell: (v) => formatCount(v.status[c]) })),
    { name: "No response", number: true, cell: (v) => formatCount(v.status.none) },
    ...(["p50", "p90", "p99"] as const).map((q): Column<Rates> => ({ name: `Wall ${q}`, number: true, cell: (v) => formatMillis(v.wall_ms?.[q]) })),
    { name: "CPU p50", number: true, cell: (v) => formatMillis(v.cpu_ms?.p50) },
  ];
  return (
    <section class="stack">
      <h2>Totals of this time</h2>
      <Table caption="Totals by version" columns={columns} rows={rows} rowKey={(v) => v.version_id} />
    </section>
  );
}
