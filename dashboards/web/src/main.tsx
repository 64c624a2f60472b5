import "./styles/tokens.css";
import "./styles/base.css";
import { signal } from "@preact/signals";
import { render } from "preact";
import { useEffect, useErrorBoundary } from "preact/hooks";
import { ErrorBoundary, LocationProvider, Route, Router, useLocation } from "preact-iso";
import { accountOf, areasOf, loadSession, session } from "./session";
import { routes } from "./routes";
import { useQuery } from "./lib/query";
import { Loading, Problem } from "./ui/basics";
import { Page } from "./ui/page";
import { Shell } from "./ui/shell";

/** Why a part of the dashboard itself could not be loaded. */
const missing = signal<Error | undefined>();

// After an upgrade the files of the older release are gone. The page is loaded anew then, but
// not over and over.
addEventListener("vite:preloadError", (event) => {
  if (mayReload()) location.reload();
  else missing.value = event.payload;
});

function mayReload(): boolean {
  const key = "tidegate.reloaded";
  try {
    const last = Number(sessionStorage.getItem(key));
    sessionStorage.setItem(key, String(Date.now()));
    return Date.now() - last > 60_000;
  } catch {
    return false; // storage is off: nothing would stop a loop
  }
}

function App() {
  const { path } = useLocation();
  const first = useQuery("session", loadSession);
  const open = routes.some((r) => r.open && r.path === path);
  if (session.value === undefined) {
    return first.error ? <main><Problem error={first.error} what="The dashboard could not ask who is signed in." retry={first.reload} /></main> : first.loading ? <Loading /> : <SignIn />;
  }
  if (open) return <Pages />;
  if (session.value === null) return <SignIn />;
  return <Shell><Pages /></Shell>;
}

/** Sends who is not signed in to the login page, and back afterwards. */
function SignIn() {
  const { url, path, route } = useLocation();
  const there = path === "/login";
  useEffect(() => {
    if (!there) route(url === "/" ? "/login" : `/login?next=${encodeURIComponent(url)}`, true);
  }, [there, url]);
  return there ? <Pages /> : null;
}

function Pages() {
  const { url } = useLocation();
  const [thrown, forget] = useErrorBoundary() as [unknown, () => void];
  useEffect(() => {
    if (missing.value) location.reload(); // what failed to load is not asked for again
    forget();
  }, [url]);
  const failure = missing.value ?? thrown;
  if (failure !== undefined) {
    return <Page title="This page failed"><Problem error={failure} what="The page could not be shown." retry={() => location.reload()} /></Page>;
  }
  return (
    <ErrorBoundary>
      <Router>
        {routes.map((r) => <Route key={r.path} path={r.path} component={r.component} />)}
        <Route path="/" component={Home} />
        <Route default component={NotFound} />
      </Router>
    </ErrorBoundary>
  );
}

function Home() {
  const { route } = useLocation();
  const account = accountOf("/");
  useEffect(() => route((account && areasOf(account)[0]?.[0]) || "/accounts", true), [account]);
  return <Loading />;
}

function NotFound() {
  return <Page title="No such page"><p>This address has no page. <a href="/">To where the dashboard begins</a>.</p></Page>;
}

render(<LocationProvider><App /></LocationProvider>, document.getElementById("app")!);
