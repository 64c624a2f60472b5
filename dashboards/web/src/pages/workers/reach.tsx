// How a script is reached, and how one of its versions is tried before others get it.
import type { ComponentChildren } from "preact";
import { get, path, scriptPath, type Schemas } from "../../api/client";
import { useQuery } from "../../lib/query";
import { Copy, Loading, Note, Problem, VersionName } from "../../ui/basics";
import { orNothing, type ScriptState } from "./data";
import { affinityText, keyCommand, overrideCommand, previewUrl } from "./commands";

interface Reach {
  hosts: Schemas["Worker"]["subdomain"];
  routes: Schemas["Route"][];
  domains: Schemas["Domain"][];
  affinity: Schemas["Affinity"] | undefined;
}

function useReach(account: string, script: string) {
  return useQuery(`reach ${account} ${script}`, async (signal): Promise<Reach> => {
    const [worker, routes, domains, affinity] = await Promise.all([
      get<Schemas["Worker"]>(path("accounts", account, "workers", "workers", script), { signal }),
      get<Schemas["Route"][]>(scriptPath(account, script, "routes"), { signal }),
      get<Schemas["Domain"][]>(path("accounts", account, "workers", "domains"), { signal, query: { service: script } }),
      orNothing(get<Schemas["Affinity"]>(scriptPath(account, script, "affinity"), { signal })),
    ]);
    return { hosts: worker.subdomain, routes, domains, affinity };
  });
}

export function ReachPanel(props: { account: string; script: string; state: ScriptState }) {
  const reach = useReach(props.account, props.script);
  return (
    <section class="panel stack" aria-labelledby="reach">
      <h2 id="reach">How to reach it</h2>
      <Problem error={reach.error} what="The addresses could not be read." retry={reach.reload} />
      {reach.data ? <Addresses {...reach.data} script={props.script} /> : reach.loading && <Loading what="addresses" />}
      {reach.data && props.state.deployments.length > 0 && <TryVersions {...props} reach={reach.data} />}
    </section>
  );
}

function Addresses(props: Reach & { script: string }) {
  const { hosts, routes, domains } = props;
  const served = domains.map((d) => d.hostname);
  return (
    <dl class="reach">
      <dt>Its own host</dt>
      <dd>{!hosts.enabled ? <span>Switched off: only its routes and domains lead here.</span>
        : hosts.url ? <Line text={hosts.url} what="the address"><a href={hosts.url}>{hosts.url}</a></Line>
        : <Note><p>The control plane does not know where the gateway is reached: start it with <code>--gateway-url</code> to see the address of {props.script} here.</p></Note>}</dd>
      {served.length > 0 && <><dt>Custom domains</dt><dd><ul class="plain-list">{served.map((h) => <li key={h}><code>{h}</code></li>)}</ul></dd></>}
      <dt>Routes</dt>
      <dd>{routes.length === 0 ? <span class="quiet">None: set them with wrangler or the API.</span>
        : <ul class="plain-list">{routes.map((r) => <li key={r.id}><code>{r.pattern}</code></li>)}</ul>}</dd>
    </dl>
  );
}

function Line(props: { text: string; what: string; children: ComponentChildren }) {
  return <span class="row"><span class="break">{props.children}</span><Copy text={props.text} what={props.what} /></span>;
}

function Command(props: { text: string; what: string }) {
  return <div class="command"><pre tabIndex={0}>{props.text}</pre><Copy text={props.text} what={props.what} /></div>;
}

function TryVersions(props: { script: string; state: ScriptState; reach: Reach }) {
  const { script, state, reach: { hosts, affinity } } = props;
  const url = hosts.enabled && hosts.url ? `${hosts.url}/` : undefined;
  const { names } = state;
  if (!url) return null;
  return (
    <>
      <h3>Try one version</h3>
      <p class="small">A request that names a version of the active deployment gets it, whatever the split says, also at 0 %.</p>
      {state.deployments[0]!.versions.map((s) => {
        const preview = hosts.previews_enabled ? previewUrl(hosts, s.version_id) : undefined;
        return (
          <div key={s.version_id} class="stack tight">
            <span class="row">
              <VersionName id={s.version_id} tag={names.tag(s.version_id)} series={names.series(s.version_id)} />
              {preview && <span class="small">or on its own host, also when no deployment names it: <a class="break" href={preview}>{preview}</a></span>}
            </span>
            <Command text={overrideCommand(url, script, s.version_id)} what={`the command that asks for ${names.name(s.version_id)}`} />
          </div>
        );
      })}
      <h3>Keep a client on one version</h3>
      <p class="small">{affinityText(affinity?.rules ?? [])} Requests with the same key stay on their version while its share grows:</p>
      <Command text={keyCommand(url)} what="the command with a key" />
    </>
  );
}
