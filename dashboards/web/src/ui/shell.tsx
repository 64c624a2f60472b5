// What stands around every page: where one can go, which account, which theme and zone.
import type { ComponentChildren } from "preact";
import { useLocation } from "preact-iso";
import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { accountOf, areasOf, session, signedInAs, signOut } from "../session";
import { zone, type Zone } from "../lib/time";
import { useAction } from "../lib/query";
import { Button, Confirm, Problem } from "./basics";
import { themeChoice, type Choice } from "./theme";
import { Toasts } from "./toast";

export function Shell(props: { children: ComponentChildren }) {
  const { path } = useLocation();
  const account = accountOf(path);
  return (
    <>
      <a class="skip-link" href="#main">Skip to the page</a>
      <div class="shell">
        <div class="side">
          <a class="brand" href="/"><img src="/tidegate.svg" alt="" width="28" height="28" />Tidegate</a>
          <AccountSwitch account={account} />
          <Navigation account={account} path={path} />
          <Foot />
        </div>
        <main id="main">{props.children}</main>
      </div>
      <Toasts />
    </>
  );
}

function AccountSwitch(props: { account: string | undefined }) {
  const { route } = useLocation();
  const accounts = session.value?.accounts ?? [];
  if (accounts.length < 2) return null;
  return (
    <label class="field">
      <span class="visually-hidden">Account</span>
      <select class="input" value={props.account} onChange={(e) => route(areasOf(e.currentTarget.value)[0]?.[0] ?? "/accounts")}>
        {accounts.map((a) => <option key={a.id} value={a.id}>{a.name}</option>)}
      </select>
    </label>
  );
}

function Navigation(props: { account: string | undefined; path: string }) {
  const { account, path } = props;
  const items = account ? areasOf(account) : [];
  items.push(["/accounts", "Accounts"]);
  if (session.value?.operator) items.push(["/system", "System"]);
  return (
    <nav aria-label="Main">
      <ul>
        {items.map(([href, text]) => {
          const here = path === href || path.startsWith(`${href}/`);
          return <li key={href}><a href={href} aria-current={path === href ? "page" : here ? "true" : undefined}>{text}</a></li>;
        })}
      </ul>
    </nav>
  );
}

const width = matchMedia("(max-width: 48rem)"); // as in base.css
const narrow = signal(width.matches);
width.addEventListener("change", () => { narrow.value = width.matches; });

/** On a phone it is folded: what the page is for comes first there. */
function Foot() {
  if (!narrow.value) return <div class="foot"><Choices /></div>;
  return <details class="foot"><summary>Theme, times, sign out</summary><Choices /></details>;
}

function Choices() {
  const leave = useAction(signOut);
  const [leaving, setLeaving] = useState(false);
  const who = session.value;
  return (
    <div class="choices">
      <label class="field">
        <span class="label">Theme</span>
        <select class="input" value={themeChoice.value} onChange={(e) => { themeChoice.value = e.currentTarget.value as Choice; }}>
          <option value="system">As the system</option><option value="light">Light</option><option value="dark">Dark</option>
        </select>
      </label>
      <label class="field">
        <span class="label">Times</span>
        <select class="input" value={zone.value} onChange={(e) => { zone.value = e.currentTarget.value as Zone; }}>
          <option value="local">Local</option><option value="UTC">UTC</option>
        </select>
      </label>
      {who && <p class="who small quiet">Signed in as {signedInAs(who)}</p>}
      {!leaving && <Problem error={leave.error} />}
      <div class="outs">
        <Button compact busy={leave.busy && !leaving} onClick={() => void leave.run(false)}>Sign out</Button>
        <Button compact onClick={() => setLeaving(true)}>Sign out everywhere</Button>
      </div>
      {leaving && who && (
        <Confirm title="Sign out everywhere?" action="End all sessions" danger busy={leave.busy} error={leave.error} onConfirm={() => void leave.run(true)} onClose={() => setLeaving(false)}>
          {who.person
            ? <p>All sessions of {signedInAs(who)} end, in every browser. API tokens go on.</p>
            : <p>All sessions of the token {signedInAs(who)} end, in every browser, also those of other people who use it. Its one-time links end, too. The token itself goes on.</p>}
        </Confirm>
      )}
    </div>
  );
}
