// Stored events, page by page into the past.
import { useMemo, useState } from "preact/hooks";
import { get, scriptPath, type Schemas } from "../../api/client";
import { useAction, useQuery } from "../../lib/query";
import { rangeQuery, useRange } from "../../lib/range";
import { formatTime, zone, zoneName } from "../../lib/time";
import { Button, Empty, Loading, Problem } from "../../ui/basics";
import { RangePicker } from "../../ui/range";
import { readEvent, type TraceEvent } from "./event";
import { EventRows, type EventRow } from "./eventrows";
import { asQuery, type Filter } from "./filters";
import { pagesOf, type Loaded } from "./pages";
import type { VersionFacts } from "./versions";

interface Props {
  account: string;
  script: string;
  filter: Filter;
  versions: Map<string, VersionFacts> | undefined;
  onOpen: (event: TraceEvent) => void;
  onClear: () => void;
}

const pageSize = 50;

export function StoredList(props: Props) {
  const { account, script, filter } = props;
  const range = useRange();
  const url = scriptPath(account, script, "events");
  const key = `events ${url} ${JSON.stringify(filter)} ${range.key}`;
  const first = useQuery(key, (signal) => get<Schemas["Events"]>(url, { signal, query: { ...asQuery(filter), ...rangeQuery(range.resolve()), limit: pageSize } }));
  const [loaded, setLoaded] = useState<Loaded>();
  const pages = useMemo(() => (first.data ? pagesOf(first.data, loaded) : []), [first.data, loaded]);
  const cursor = pages.at(-1)?.cursor;
  const more = useAction(async () => {
    const { since, until } = first.data!;
    const page = await get<Schemas["Events"]>(url, { query: { ...asQuery(filter), since, until, limit: pageSize, cursor } });
    setLoaded({ pages: [...pages, page] });
  });
  const rows = useMemo(() => pages.flatMap((p) => p.events).map((raw, i): EventRow => ({ key: String(i), event: readEvent(raw) })), [pages]);
  return (
    <section class="stack" aria-labelledby="stored-events" aria-busy={first.loading}>
      <div class="row spread">
        <h2 id="stored-events">Stored</h2>
        <div class="row"><RangePicker range={range} /><Button onClick={first.reload} busy={first.loading}>Refresh</Button></div>
      </div>
      <Problem error={first.error} what="The stored events could not be read." older={first.data !== undefined} retry={first.reload} />
      {!first.data && first.loading && <Loading what="stored events" />}
      {first.data && rows.length === 0 && (
        <Empty title="No stored events">
          <p>{Object.keys(filter).length > 0 ? "None of this time fits the filter." : "The script had no requests in this time."} Events are stored within about a second.</p>
          {Object.keys(filter).length > 0 && <Button onClick={props.onClear}>Clear filter</Button>}
        </Empty>
      )}
      {rows.length > 0 && (
        <>
          <EventRows caption="Stored events, newest first" rows={rows} versions={props.versions} onOpen={props.onOpen} />
          <Problem error={more.error} what="Older events could not be read." />
          <div class="row">
            {cursor ? <Button busy={more.busy} onClick={() => void more.run()}>Load {pageSize} older</Button> : <span class="small quiet">These are all of this time.</span>}
            <span class="small quiet">{rows.length} shown, up to {formatTime(new Date(first.data!.until), zone.value)} {zoneName()}.</span>
          </div>
        </>
      )}
    </section>
  );
}
