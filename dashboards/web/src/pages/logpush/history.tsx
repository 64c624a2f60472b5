// A job's uploads over time.
import { serverNow } from "../../lib/clock";
import { formatCompact, formatCount } from "../../lib/format";
import { useQuery } from "../../lib/query";
import { useRange } from "../../lib/range";
import { Loading, Problem } from "../../ui/basics";
import { TimeChart } from "../../ui/chart";
import { RangePicker } from "../../ui/range";
import { healthGroups } from "./api";
import { isCoarse, seriesOf } from "./series";

export function HistoryPanel(props: { account: string; id: string }) {
  const range = useRange();
  const history = useQuery(`logpush history ${props.account} ${props.id} ${range.key}`, async (signal) => {
    const { since, until } = range.resolve();
    return { since, until, series: seriesOf(await healthGroups(props.account, props.id, since, until, isCoarse(since, until), signal), since, until, serverNow()) };
  }, range.resolve().last === undefined ? {} : { every: 15_000 });
  const { series } = history.data ?? {};
  const { records: sent, failed } = series?.sum ?? {};
  return (
    <section class="panel" aria-labelledby="history">
      <div class="row spread"><h2 id="history">Deliveries over time</h2><RangePicker range={range} /></div>
      <div class="stack">
        <Problem error={history.error} what="The history could not be read." older={history.data !== undefined} retry={history.reload} />
        {!history.data && history.loading && <Loading what="the history" />}
        {series && (
          <>
            <p class="small quiet">{formatCount(sent)} records were taken, and {formatCount(failed)} tries of uploads failed in this time.</p>
            <div class="columns">
              <figure class="stack"><figcaption class="small">Records taken, by the time of the upload</figcaption>
                <TimeChart label={`Records taken: ${formatCount(sent)} in this time`} times={series.times} format={formatCompact} height={150} sync="logpush" onZoom={range.fix} series={[{ name: "Records", color: 0, values: series.records }]} />
              </figure>
              <figure class="stack"><figcaption class="small">Tries that failed</figcaption>
                <TimeChart label={`Tries that failed: ${formatCount(failed)} in this time`} times={series.times} format={formatCompact} height={150} sync="logpush" onZoom={range.fix} series={[{ name: "Failed tries", color: 1, values: series.failed }]} />
              </figure>
            </div>
          </>
        )}
      </div>
    </section>
  );
}
