// The accounts that the token opens. Only the operator's makes and changes them.
import { useState } from "preact/hooks";
import { getPage, path, type Page as ListPage, type Schemas } from "../../api/client";
import { areasOf, session } from "../../session";
import { useQuery } from "../../lib/query";
import { formatCount, shortId } from "../../lib/format";
import { useSearch } from "../../lib/url";
import { Button, Copy, Loading, Problem, Time } from "../../ui/basics";
import { Page } from "../../ui/page";
import { Table, type Column } from "../../ui/table";
import { ChangeAccount, NewAccount } from "./accountforms";
import "../../styles/account.css";

type Account = Schemas["Account"];

const perPage = 100;

/** Every account, page by page. */
async function allAccounts(signal: AbortSignal): Promise<Account[]> {
  const list: Account[] = [];
  for (let page = 1; ; page++) {
    const batch: ListPage<Account> = await getPage<Account>(path("accounts"), { query: { page, per_page: perPage }, signal });
    list.push(...batch.items);
    if (batch.items.length < perPage) return list;
  }
}

export default function Accounts() {
  const search = useSearch();
  const operator = session.value?.operator === true;
  const list = useQuery("accounts", allAccounts);
  const [changing, setChanging] = useState<Account>();
  const adding = operator && search.get("new") !== undefined;

  const add = operator && <Button look="primary" onClick={() => search.set({ new: "account" })}>Create an account</Button>;
  return (
    <Page title="Accounts" actions={add}>
      <div class="stack">
        <p class="quiet">
          An account has Workers, jobs and tokens of its own, and shares nothing with others.
          {!operator && " Only operators make and change accounts: the token that the first start wrote, and people who have the scope admin in every account."}
        </p>
        <Problem error={list.error} what="The accounts could not be listed." older={list.data !== undefined} retry={list.reload} />
        {list.data === undefined && list.loading && <Loading what="accounts" />}
        {list.data && <List accounts={list.data} onChange={operator ? setChanging : undefined} />}
      </div>
      {adding && <NewAccount onMade={list.reload} onClose={() => search.set({ new: undefined }, "replace")} />}
      {changing && <ChangeAccount account={changing} onChanged={list.reload} onClose={() => setChanging(undefined)} />}
    </Page>
  );
}

function List(props: { accounts: Account[]; onChange: ((account: Account) => void) | undefined }) {
  const { onChange } = props;
  const columns: Column<Account>[] = [
    { name: "Name", heading: true, cell: (a) => <a class="account-name" href={areasOf(a.id)[0]?.[0] ?? "/accounts"}>{a.name}</a> },
    { name: "Subdomain", cell: (a) => <code>{a.subdomain}</code> },
    { name: "Id", cell: (a) => <span class="id"><code title={a.id}>{shortId(a.id)}…</code><Copy text={a.id} what={`the id of ${a.name}`} /></span> },
    { name: "Versions at once", number: true, cell: (a) => formatCount(a.settings.max_versions) },
    { name: "Logpush jobs", number: true, cell: (a) => formatCount(a.settings.max_jobs) },
    { name: "Created", cell: (a) => <Time at={a.created_on} /> },
  ];
  if (onChange) {
    columns.push({ name: "Actions", quiet: true, cell: (a) => <Button compact onClick={() => onChange(a)} aria-label={`Change the account ${a.name}`}>Change</Button> });
  }
  return <Table caption="Accounts, with the limits of each" columns={columns} rows={props.accounts} rowKey={(a) => a.id} />;
}
