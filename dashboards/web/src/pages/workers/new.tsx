// Makes a script: from a template, or of a service that runs already.
import { useState } from "preact/hooks";
import { useLocation, useRoute } from "preact-iso";
import "../../styles/workers.css";
import { get, path, type Schemas } from "../../api/client";
import { useAction, useMounted, useQuery } from "../../lib/query";
import { scriptPage, useSearch } from "../../lib/url";
import { may } from "../../session";
import { Button, LinkButton, Note, Problem, Segments, SelectField, TextField } from "../../ui/basics";
import { Page } from "../../ui/page";
import { toast } from "../../ui/toast";
import { createFromOrigin, createFromTemplate, HalfMade, NameTaken } from "./create";
import { originProblem, scriptNameProblem } from "./names";
import { templateOf, templates, type Template } from "./templates";

const kinds = [["template", "From a template"], ["origin", "A service by its URL"]] as const;
type Kind = (typeof kinds)[number][0];

export default function NewScriptPage() {
  const account = useRoute().params["account"]!;
  const search = useSearch();
  const kind: Kind = search.get("from") === "origin" ? "origin" : "template";
  return (
    <Page title="New script" crumbs={[{ text: "Workers", href: `/${account}/workers` }]}>
      {may("scripts:edit") ? (
        <div class="stack workers-form">
          <Segments label="What the script is" options={kinds} value={kind} onChange={(from) => search.set({ from: from === "template" ? undefined : from })} />
          {kind === "template" ? <TemplateForm account={account} /> : <OriginForm account={account} />}
        </div>
      ) : <Note tone="warn"><p>Your token may not make scripts: sign in with one that has the scope <code>scripts:edit</code>.</p></Note>}
    </Page>
  );
}

interface FormProps {
  account: string;
}

/** The fields that both kinds have, and what becomes of them. */
function useForm(account: string, create: (script: string, tag: string) => Promise<void>) {
  const { route } = useLocation();
  const mounted = useMounted();
  const [script, setScript] = useState("");
  const [tag, setTag] = useState("v1");
  const [tried, setTried] = useState(false);
  const action = useAction(() => create(script, tag));
  const submit = async (problems: (string | undefined)[]): Promise<void> => {
    setTried(true);
    if (scriptNameProblem(script) !== undefined || problems.some((p) => p !== undefined)) return;
    if (!(await action.run())) return;
    toast(`${script} is made and gets all of its traffic with ${tag || "its first version"}.`);
    if (mounted()) route(scriptPage(account, script));
  };
  return { script, setScript, tag, setTag, tried, action, submit };
}

type Form = ReturnType<typeof useForm>;

function CommonFields(props: { form: Form }) {
  const { form } = props;
  return (
    <>
      <TextField label="Name of the script" value={form.script} onInput={form.setScript} required placeholder="shop" mono
        hint="Lower-case letters, digits, dashes and underscores: it is the first part of the script’s host name."
        error={form.tried || form.script !== "" ? scriptNameProblem(form.script) : undefined} />
      <TextField label="Tag of its first version" value={form.tag} onInput={form.setTag} placeholder="v1" hint="What you call the version, in charts and in commands. It may stay empty." />
    </>
  );
}

function Submit(props: { form: Form; account: string; what: string }) {
  const { action, script, tag } = props.form;
  return (
    <>
      <Note><p>{props.what} and deploys it: version {tag ? `“${tag}”` : "one"} gets 100 % of the traffic of {script ? `“${script}”` : "the script"} at once.</p></Note>
      <Failure account={props.account} error={action.error} />
      <div class="row">
        <Button submit look="primary" busy={action.busy}>Make and deploy at 100 %</Button>
        <LinkButton href={`/${props.account}/workers`}>Cancel</LinkButton>
      </div>
    </>
  );
}

function Failure({ account, error }: { account: string; error: unknown }) {
  if (!(error instanceof NameTaken || error instanceof HalfMade)) return <Problem error={error} what="The script was not made." />;
  const link = <a href={scriptPage(account, error.script)}>Open {error.script}</a>;
  if (error instanceof NameTaken) return <Note tone="bad" live><p>{error.message}</p><p>{link}</p></Note>;
  return (
    <>
      <Problem error={error.cause} what={error.message} />
      <p>{link}</p>
    </>
  );
}

function TemplateForm({ account }: FormProps) {
  const search = useSearch();
  const template = templateOf(search.get("template"));
  const [service, setService] = useState("");
  const scripts = useQuery(`scripts to call ${account}`, (signal) => get<Schemas["Script"][]>(path("accounts", account, "workers", "scripts"), { signal }), { enabled: template.service ?? false });
  const form = useForm(account, (script, tag) => createFromTemplate({ account, script, tag, template, service }));
  const missing = template.service && service === "" ? "Choose the script that it calls." : undefined;
  return (
    <form class="stack panel" noValidate onSubmit={(e) => { e.preventDefault(); void form.submit([missing]); }}>
      <TemplateChoice value={template} onChange={(id) => search.set({ template: id === templates[0]!.id ? undefined : id }, "replace")} />
      {template.service && <ServiceField scripts={scripts.data} value={service} onChange={setService} error={form.tried ? missing : undefined} />}
      {template.service && <Problem error={scripts.error} what="The scripts of this account could not be read." retry={scripts.reload} />}
      <CommonFields form={form} />
      <details>
        <summary>The code it begins with</summary>
        <pre class="code" tabIndex={0}>{template.source}</pre>
        <p class="small quiet">Edit it in the browser, or with wrangler, once the script is there.</p>
      </details>
      <Submit form={form} account={account} what="This uploads the code" />
    </form>
  );
}

function TemplateChoice(props: { value: Template; onChange: (id: string) => void }) {
  return (
    <fieldset class="choices">
      <legend>Template</legend>
      {templates.map((t) => (
        <label key={t.id} class="choice">
          <input type="radio" name="template" value={t.id} checked={t.id === props.value.id} onChange={() => props.onChange(t.id)} />
          <span><strong>{t.name}</strong><br /><span class="small quiet">{t.what}</span></span>
        </label>
      ))}
    </fieldset>
  );
}

function ServiceField(props: { scripts: Schemas["Script"][] | undefined; value: string; onChange: (name: string) => void; error: string | undefined }) {
  if (props.scripts?.length === 0) return <Note tone="warn"><p>This account has no other script yet: make the one that is to be called first.</p></Note>;
  const options = [["", "Choose a script"] as const, ...(props.scripts ?? []).map((s) => [s.id, s.id] as const)];
  return <SelectField label="Script that it calls" value={props.value} options={options} onChange={props.onChange} hint="The binding BACKEND leads there, to the version that the split of that script picks." error={props.error} />;
}

function OriginForm({ account }: FormProps) {
  const [url, setUrl] = useState("");
  const form = useForm(account, (script, tag) => createFromOrigin({ account, script, tag, url: url.trim() }));
  const problem = originProblem(url.trim());
  return (
    <form class="stack panel" noValidate onSubmit={(e) => { e.preventDefault(); void form.submit([problem]); }}>
      <TextField label="URL of the service" value={url} onInput={setUrl} type="url" required mono placeholder="http://10.0.0.5:9000"
        hint={<>Requests are passed on there, with their own path and query. <code>https://</code> speaks HTTP/2 where it is offered, <code>h2c://</code> HTTP/2 without TLS. Several servers, health checks and timeouts can be set with the API.</>}
        error={form.tried || url !== "" ? problem : undefined} />
      <CommonFields form={form} />
      <Submit form={form} account={account} what="This makes a version that is the service at this URL" />
    </form>
  );
}
