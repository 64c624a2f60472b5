// Events of a script as they come, and those that are stored.
import { useState } from "preact/hooks";
import { useRoute } from "preact-iso";
import { get, scriptPath, type Schemas } from "../../api/client";
import { useQuery } from "../../lib/query";
import { useSearch } from "../../lib/url";
import { may } from "../../session";
import { Note } from "../../ui/basics";
import { ScriptPage } from "../../ui/page";
import "../../styles/compare.css";
import type { TraceEvent } from "./event";
import { EventDialog } from "./eventdialog";
import { FilterBar, RayForm } from "./filterbar";
import { filterNames, readFilter } from "./filters";
import { LiveList } from "./livelist";
import { StoredList } from "./storedlist";
import { versionFacts } from "./versions";

export default function LivePage() {
  const { params } = useRoute();
  const account = params["account"]!;
  const script = params["script"]!;
  return (
    <ScriptPage account={account} script={script} title="Live events">
      {may("logs:read", "scripts:edit")
        ? <Events key={`${account} ${script}`} account={account} script={script} />
        : <Note tone="warn">The token that you signed in with may not read events. Sign in with one that has the scope <code>logs:read</code>, or ask an administrator for it.</Note>}
    </ScriptPage>
  );
}

function Events({ account, script }: { account: string; script: string }) {
  const search = useSearch();
  const filter = readFilter(search.get);
  const ray = search.get("ray");
  // An event without a ray, such as one that a schedule began, has no address.
  const [opened, setOpened] = useState<TraceEvent>();
  const versions = useQuery(`versions ${account} ${script}`, async (signal) => {
    const { items } = await get<{ items: Schemas["Version"][] }>(scriptPath(account, script, "versions"), { signal, query: { per_page: 100 } });
    return versionFacts(items, []);
  });
  const open = (event: TraceEvent): void => {
    setOpened(event);
    if (event.ray) search.set({ ray: event.ray });
  };
  const close = (): void => {
    setOpened(undefined);
    if (ray) search.set({ ray: undefined }, "replace");
  };
  const clear = (): void => search.set(Object.fromEntries(filterNames.map((n) => [n, undefined])));
  const shared = { account, script, filter, versions: versions.data, onOpen: open };
  return (
    <div class="stack">
      <FilterBar filter={filter} versions={versions.data} onChange={(f) => search.set(f)} onClear={clear} />
      <LiveList {...shared} />
      <StoredList {...shared} onClear={clear} />
      <RayForm onOpen={(r) => search.set({ ray: r })} />
      {(ray !== undefined || (opened !== undefined && !opened.ray)) && <EventDialog key={ray} account={account} script={script} ray={ray ?? ""} known={ray === undefined || opened?.ray === ray ? opened : undefined} onClose={close} />}
    </div>
  );
}
