// The API tokens of an account: what each may do, when it was last used, and its end.
import { useState } from "preact/hooks";
import { useRoute } from "preact-iso";
import { call, get, path, type Schemas } from "../../api/client";
import { loadSession, may, scopesHere, session } from "../../session";
import { useAction, useQuery } from "../../lib/query";
import { useSearch } from "../../lib/url";
import { Badge, Button, Confirm, Empty, Loading, Problem, Time } from "../../ui/basics";
import { Page } from "../../ui/page";
import { Table, type Column } from "../../ui/table";
import { toast } from "../../ui/toast";
import { NewToken, Secret } from "./newtoken";
import "../../styles/account.css";

type Token = Schemas["Token"];

export default function Tokens() {
  const account = useRoute().params["account"]!;
  const search = useSearch();
  const list = useQuery(`tokens ${account}`, (signal) => get<Token[]>(path("accounts", account, "tokens"), { signal }), { every: 60_000, enabled: may("admin") });
  const [ending, setEnding] = useState<Token>();
  // Not by the address: going back must not take away what cannot be shown again.
  const [made, setMade] = useState<Token>();
  const adding = may("admin") && search.get("new") !== undefined;
  const close = (): void => search.set({ new: undefined }, "replace");
  const show = (token: Token): void => {
    setMade(token);
    close();
    list.reload();
  };

  const add = may("admin") && <Button look="primary" onClick={() => search.set({ new: "token" })}>Create a token</Button>;
  return (
    <Page title="Tokens" actions={add}>
      <div class="stack">
        {may("admin")
          ? <p class="quiet">A token opens this account to programs, and to people at this dashboard. Its secret is shown once, when it is made.</p>
          : <p>Tokens can be seen and made with the scope <code>admin</code>. You have: {scopesHere().join(", ")}.</p>}
        <Problem error={list.error} what="The tokens could not be listed." older={list.data !== undefined} retry={list.reload} />
        {list.data === undefined && list.loading && <Loading what="tokens" />}
        {list.data?.length === 0 && <Empty title="No token yet"><p>Create one for each program and each person, with no more rights than they need. The operator’s own token is of no account, and not listed.</p></Empty>}
        {list.data !== undefined && list.data.length > 0 && <List tokens={list.data} onEnd={setEnding} />}
      </div>
      {made ? <Secret token={made} onClose={() => setMade(undefined)} /> : adding && <NewToken account={account} onMade={show} onClose={close} />}
      {ending && <End account={account} token={ending} onEnded={list.reload} onClose={() => setEnding(undefined)} />}
    </Page>
  );
}

function List(props: { tokens: Token[]; onEnd: (token: Token) => void }) {
  const columns: Column<Token>[] = [
    { name: "Name", heading: true, cell: (t) => <>{t.name} {isMine(t) && <Badge tone="accent">your session</Badge>}</> },
    { name: "Scopes", cell: (t) => <div class="badges">{t.scopes.map((s) => <Badge key={s}>{s}</Badge>)}</div> },
    { name: "Author", cell: (t) => t.email },
    { name: "Created", cell: (t) => <Time at={t.issued_on} /> },
    { name: "Last used", cell: (t) => (t.last_used_on ? <Time at={t.last_used_on} /> : "never") },
    { name: "Expires", cell: (t) => <Expiry token={t} /> },
    { name: "Actions", quiet: true, cell: (t) => <Button compact onClick={() => props.onEnd(t)} aria-label={`Revoke the token ${t.name}`}>Revoke</Button> },
  ];
  return <Table caption="Tokens of this account" columns={columns} rows={props.tokens} rowKey={(t) => t.id} />;
}

function isMine(t: Token): boolean {
  return t.id === session.value?.token?.id;
}

function Expiry(props: { token: Token }) {
  const { status, expires_on } = props.token;
  if (expires_on === undefined) return <>never</>;
  return <>{status === "expired" && <Badge tone="bad">expired</Badge>} <Time at={expires_on} /></>;
}

function End(props: { account: string; token: Token; onEnded: () => void; onClose: () => void }) {
  const { account, token } = props;
  const end = useAction(async () => {
    await call("DELETE", path("accounts", account, "tokens", token.id));
    toast(`The token ${token.name} opens nothing any more.`);
    if (isMine(token)) await loadSession(); // and find it ended
  });
  const confirm = async (): Promise<void> => {
    if (!(await end.run())) return;
    props.onEnded();
    props.onClose();
  };
  return (
    <Confirm title={`Revoke the token ${token.name}?`} action={`Revoke ${token.name}`} danger busy={end.busy} error={end.error} onConfirm={() => void confirm()} onClose={props.onClose}>
      <p>It opens nothing from then on, and the sessions of this dashboard that stand for it end. What uses it is refused at its next request. This cannot be undone.</p>
      <p>{token.last_used_on ? <>It was last used <Time at={token.last_used_on} />.</> : "It was never used."}</p>
      {isMine(token) && <p><strong>You are signed in with this token, and will be signed out.</strong></p>}
    </Confirm>
  );
}
