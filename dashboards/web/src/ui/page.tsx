// The frame of every page: title, way back, tabs, what can be done.
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { useLocation } from "preact-iso";
import { scriptPage } from "../lib/url";

export interface Crumb {
  text: string;
  href: string;
}

/** `name` is what the browser calls the page in its tabs and history, where the title alone does not tell it from others. */
export function Page(props: { title: string; name?: string; crumbs?: Crumb[]; actions?: ComponentChildren; tabs?: ComponentChildren; children: ComponentChildren }) {
  const heading = useRef<HTMLHeadingElement>(null);
  const { path } = useLocation();
  const name = props.name ?? props.title;
  useEffect(() => {
    document.title = `${name} · Tidegate`;
  }, [name]);
  useEffect(() => {
    // Who follows a link with the keyboard or a screen reader begins at the new page.
    heading.current?.focus({ preventScroll: true });
  }, [path]);
  return (
    <>
      <header class="page-head">
        {props.crumbs && (
          <nav class="crumbs" aria-label="Breadcrumb">
            <ol>{props.crumbs.map((c) => <li key={c.href}><a href={c.href}>{c.text}</a></li>)}</ol>
          </nav>
        )}
        <div class="row spread">
          <h1 ref={heading} tabIndex={-1}>{props.title}</h1>
          {props.actions && <div class="row">{props.actions}</div>}
        </div>
      </header>
      {props.tabs}
      {props.children}
    </>
  );
}

export function Tabs(props: { label: string; tabs: readonly (readonly [href: string, text: string])[] }) {
  const { path } = useLocation();
  return (
    <nav class="tabs" aria-label={props.label}>
      <ul>
        {props.tabs.map(([href, text]) => (
          <li key={href}><a href={href} aria-current={path === href ? "page" : undefined}>{text}</a></li>
        ))}
      </ul>
    </nav>
  );
}

/** The tabs of one script, the same on all of its pages. `part` names what of a page is shown. */
export function ScriptPage(props: { account: string; script: string; title?: string; part?: string; actions?: ComponentChildren; children: ComponentChildren }) {
  const base = scriptPage(props.account, props.script);
  const crumbs = [{ text: "Workers", href: `/${props.account}/workers` }];
  if (props.title !== undefined) crumbs.push({ text: props.script, href: base });
  const tabs = <Tabs label={`Pages of ${props.script}`} tabs={[
    [base, "Overview"], [`${base}/versions`, "Versions"], [`${base}/deployments`, "Deployments"], [`${base}/edit`, "Code"],
    [`${base}/compare`, "Compare"], [`${base}/live`, "Live"], [`${base}/rollback`, "Rollback"], [`${base}/calls`, "Calls"],
  ]} />;
  const name = [props.part, props.title, props.script].filter(Boolean).join(" · ");
  return <Page title={props.title ?? props.script} name={name} crumbs={crumbs} actions={props.actions} tabs={tabs}>{props.children}</Page>;
}
