// Signs in with an API token, or with the code of a one-time link.
import { useEffect, useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { loadSession, session, signIn } from "../../session";
import { useAction } from "../../lib/query";
import { useSearch } from "../../lib/url";
import { Button, Note, Problem, TextField } from "../../ui/basics";
import { destination, takenCode } from "./link";
import "../../styles/account.css";

export default function Login() {
  const { route } = useLocation();
  const next = useSearch().get("next");
  const [token, setToken] = useState("");
  const [byLink, setByLink] = useState(false);
  // Of a link that waits for a word of who is signed in: anybody can make somebody open one.
  const [waiting, setWaiting] = useState<string>();
  const entry = useAction(signIn);
  const arrival = useAction(async (code: string) => {
    await loadSession(); // another tab may have signed in or out meanwhile
    if (session.value) setWaiting(code);
    else void enter({ code });
  });

  const enter = async (credential: { token: string } | { code: string }): Promise<void> => {
    setWaiting(undefined);
    if (await entry.run(credential)) route(destination(next, location.origin), true);
  };
  useEffect(() => {
    document.title = "Sign in · Tidegate";
    // A link that is opened in this very tab changes no more than what is behind the #.
    const look = (): void => {
      const code = takenCode();
      if (code === undefined) {
        if (session.value) route(destination(next, location.origin), true);
        return;
      }
      setByLink(true);
      setWaiting(undefined);
      entry.clear();
      void arrival.run(code);
    };
    look();
    addEventListener("hashchange", look);
    return () => removeEventListener("hashchange", look);
  }, []);

  const submit = (event: Event): void => {
    event.preventDefault();
    setByLink(false);
    void enter({ token: token.trim() });
  };
  return (
    <main class="login">
      <div class="stack">
        <h1><img src="/tidegate.svg" alt="" width="32" height="32" />Sign in to Tidegate</h1>
        <div aria-live="polite">{byLink && (arrival.busy || entry.busy) && <p>Signing in with the link …</p>}</div>
        <Problem error={entry.error} what={byLink ? "The link did not sign you in." : "You are not signed in."} />
        <Problem error={arrival.error} what="The link was not used: open it again." />
        {waiting !== undefined && session.value
          ? <Replace name={session.value.token.name} onStay={() => route(destination(next, location.origin), true)} onReplace={() => void enter({ code: waiting })} />
          : (
            <form class="stack panel" onSubmit={submit}>
              <TextField label="API token" type="password" value={token} onInput={setToken} autoComplete="current-password" required mono autoFocus />
              <div><Button look="primary" submit busy={entry.busy}>Sign in</Button></div>
            </form>
          )}
        <Where />
      </div>
    </main>
  );
}

function Replace(props: { name: string; onStay: () => void; onReplace: () => void }) {
  return (
    <Note tone="warn" live>
      <p><strong>You are signed in as {props.name}. Sign in as the link says?</strong> Do so only if you asked for the link: it may be somebody else’s.</p>
      <div class="row">
        <Button onClick={props.onStay}>Stay signed in</Button>
        <Button onClick={props.onReplace}>Sign in as the link says</Button>
      </div>
    </Note>
  );
}

function Where() {
  return (
    <section class="stack small" aria-labelledby="where">
      <h2 id="where">Where to get in</h2>
      <ul class="ways">
        <li>On the machine where Tidegate runs, <code>tidegate dashboard</code> prints a link that signs in once, within 10 minutes.</li>
        <li>The first start wrote a token into <code>admin-token</code> in its data folder. It opens everything.</li>
        <li>Others are made on the page “Tokens” of an account, or by <code>tidegate token create</code>. Ask whoever runs this platform for one.</li>
      </ul>
      <p class="quiet">The session can do what the token can. It ends after 12 hours, after an hour without use, and with the token, which this page does not keep.</p>
    </section>
  );
}
