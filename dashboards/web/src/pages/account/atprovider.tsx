// Leads to the identity provider, if there is one.
import { call, get } from "../../api/client";
import { useAction, useQuery } from "../../lib/query";
import { Button, Note, Problem } from "../../ui/basics";
import { keepNext } from "./homecoming";

interface Provider {
  name: string;
  /** Why nobody can sign in there now. */
  problem?: string;
}

export function AtProvider(props: { next: string | undefined }) {
  const provider = useQuery("identity provider", (signal) => get<Provider | null>("/session/oidc", { signal }));
  const leave = useAction(async () => {
    const { url } = await call<{ url: string }>("POST", "/session/oidc");
    keepNext(props.next);
    location.assign(url);
  });
  if (!provider.data) return <Problem error={provider.error} what="The dashboard could not ask whether there is an identity provider." retry={provider.reload} />;
  const { name, problem } = provider.data;
  return (
    <section class="stack panel" aria-label={name}>
      {problem !== undefined && leave.error === undefined && <Note tone="warn"><p>{problem}</p></Note>}
      <Problem error={leave.error} what="You are not signed in." />
      <div><Button look="primary" busy={leave.busy} onClick={() => void leave.run()}>Sign in with {name}</Button></div>
    </section>
  );
}
