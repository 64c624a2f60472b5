// Signs in with an API token, or with the code of a one-time link.
import { useEffect, useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { session, signIn } from "../../session";
import { useAction } from "../../lib/query";
import { useSearch } from "../../lib/url";
import { Button, Problem, TextField } from "../../ui/basics";
import { destination, takenCode } from "./link";
import "../../styles/account.css";

export default function Login() {
  const { route } = useLocation();
  const next = useSearch().get("next");
  const [token, setToken] = useState("");
  const [byLink, setByLink] = useState(false);
  const entry = useAction(signIn);

  const enter = async (credential: { token: string } | { code: string }): Promise<void> => {
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
      void enter({ code });
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
        <div aria-live="polite">{byLink && entry.busy && <p>Signing in with the link …</p>}</div>
        <Problem error={entry.error} what={byLink ? "The link did not sign you in." : "You are not signed in."} />
        <form class="stack panel" onSubmit={submit}>
          <TextField label="API token" type="password" value={token} onInput={setToken} autoComplete="current-password" required mono autoFocus />
          <div><Button look="primary" submit busy={entry.busy}>Sign in</Button></div>
        </form>
        <Where />
      </div>
    </main>
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
