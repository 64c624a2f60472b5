import "./styles/tokens.css";
import "./styles/base.css";
import { render } from "preact";
import { useEffect } from "preact/hooks";
import { ErrorBoundary, LocationProvider, Route, Router, useLocation } from "preact-iso";
import { loadSession, session } from "./session";
import { routes } from "./routes";
import { useQuery } from "./lib/query";
import { Loading, Problem } from "./ui/basics";
import { Page } from "./ui/page";
import { accountOf, Shell } from "./ui/shell";

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
  useEffect(() => route(account ? `/${account}/workers` : "/accounts", true), [account]);
  return <Loading />;
}

function NotFound() {
  return <Page title="No such page"><p>This address has no page. Go to <a href="/">the Workers</a>.</p></Page>;
}

render(<LocationProvider><App /></LocationProvider>, document.getElementById("app")!);
