// Signs in with an API token, with the code of a one-time link, or by the identity provider.
import { useEffect, useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { hasEnded, leftProvider, loadSession, session, signedInAs, signIn, type Credential } from "../../session";
import { useAction } from "../../lib/query";
import { useSearch } from "../../lib/url";
import { Button, Note, Problem, TextField } from "../../ui/basics";
import { AtProvider } from "./atprovider";
import { takenHomecoming, takenNext } from "./homecoming";
import { destination, takenCode } from "./link";
import "../../styles/account.css";

export default function Login() {
  const { route } = useLocation();
  const asked = useSearch().get("next");
  const [askedBefore, setAskedBefore] = useState<string>(); // of who comes back from the provider
  const next = asked ?? askedBefore;
  const [token, setToken] = useState("");
  const [way, setWay] = useState<"token" | "link" | "provider">("token");
  const [refused, setRefused] = useState<string>();
  // Of a link that waits for a word of who is signed in: anybody can make somebody open one.
  const [waiting, setWaiting] = useState<string>();
  const entry = useAction(signIn);
  const arrival = useAction(async (code: string) => {
    await loadSession(); // another tab may have signed in or out meanwhile
    if (session.value) setWaiting(code);
    else void enter({ code });
  });

  const enter = async (credential: Credential, aim = next): Promise<void> => {
    setWaiting(undefined);
    setRefused(undefined);
    if (await entry.run(credential)) route(destination(aim, location.origin), true);
  };
  useEffect(() => {
    document.title = "Sign in · Tidegate";
    // A link that is opened in this very tab changes no more than what is behind the #.
    const look = (): void => {
      const home = takenHomecoming();
      if (home) {
        const before = takenNext();
        setAskedBefore(before);
        setWay("provider");
        if ("oidc" in home) void enter(home, before);
        else setRefused(home.refused);
        return;
      }
      const code = takenCode();
      if (code === undefined) {
        if (session.value) route(destination(next, location.origin), true);
        return;
      }
      setWay("link");
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
    setWay("token");
    void enter({ token: token.trim() });
  };
  return (
    <main class="login">
      <div class="stack">
        <h1><img src="/tidegate.svg" alt="" width="32" height="32" />Sign in to Tidegate</h1>
        <div aria-live="polite">
          {way === "link" && (arrival.busy || entry.busy) && <p>Signing in with the link …</p>}
          {way === "provider" && entry.busy && <p>Signing in …</p>}
        </div>
        {hasEnded.value && <Note tone="warn" live><p><strong>Your session has ended.</strong> Sign in to go on.</p></Note>}
        {leftProvider.value !== undefined && (
          <Note live><p>You are signed out here. At {leftProvider.value} you may still be signed in: if others use this browser, sign out there, too.</p></Note>
        )}
        {refused !== undefined && <Note tone="bad" live><p><strong>You are not signed in.</strong> The identity provider has refused: {refused}.</p></Note>}
        <Problem error={entry.error} what={way === "link" ? "The link did not sign you in." : "You are not signed in."} />
        <Problem error={arrival.error} what="The link was not used: open it again." />
        {waiting !== undefined && session.value
          ? <Replace name={signedInAs(session.value)} onStay={() => route(destination(next, location.origin), true)} onReplace={() => void enter({ code: waiting })} />
          : (
            <>
              <AtProvider next={next} />
              <form class="stack panel" onSubmit={submit}>
                <TextField label="API token" type="password" value={token} onInput={setToken} autoComplete="current-password" required mono autoFocus />
                <div><Button look="primary" submit busy={way === "token" && entry.busy}>Sign in</Button></div>
              </form>
            </>
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
      <p class="quiet">A session can do what its token can, or what the roles of your groups say. It ends after 12 hours, after an hour without use, and with the token, which this page does not keep.</p>
    </section>
  );
}
