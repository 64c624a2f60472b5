// Changes the split: a version, its share, and one sentence that says what that does.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, scriptPath, type Schemas } from "../../api/client";
import { shortId } from "../../lib/format";
import { useQuery } from "../../lib/query";
import { changeSentence, full, movedSentence, parsePercent, percentage, percentText, sameSplit, shareOf, splitOf, splitProblem, type Split } from "../../lib/split";
import { scriptPage, useSearch } from "../../lib/url";
import { Button, Note, Problem, Segments, SelectField, TextField } from "../../ui/basics";
import { isOvertaken, orNothing, type ScriptState } from "./data";
import { Refusal, useDeploy } from "./deploydialog";
import { alone, next } from "./history";
import { rampText, SplitBar } from "./parts";
import type { RecentRate } from "./rates";

const presets = ["1", "5", "10", "25", "50", "100"].map((p) => [p, `${p} %`] as const);
const deployable = 100; // versions, by the API
const firstShare = 10_000; // of a version that does not serve yet

interface Props {
  account: string;
  script: string;
  state: ScriptState;
  recent: RecentRate | undefined;
  reload: () => void;
}

export function PromotePanel(props: Props) {
  const { account, script, state } = props;
  const form = useSplit(state);
  const [message, setMessage] = useState("");
  const action = useDeploy(account, script, state, props.reload);
  const tried = useRef<Split[]>([]);
  const serving = state.deployments[0]?.versions ?? [];
  if (form === undefined || (state.versions.length === 1 && alone(serving) !== undefined)) return <Nothing {...props} />;
  const problem = splitProblem(form.version, form.share, form.beside);
  const after = problem === undefined ? splitOf(form.version, form.share!, form.beside) : undefined;
  const run = async (force?: boolean): Promise<void> => {
    if (!after || action.busy) return;
    tried.current = after;
    if (await action.run(after, message, force)) {
      setMessage("");
      form.clear();
    }
  };
  // A refusal of another split says nothing of this one, and must not be overridden by it.
  const refused = isOvertaken(action.error) || (after && sameSplit(tried.current, after)) ? action.error : undefined;
  return (
    <section class="panel" aria-labelledby="promote">
      <h2 id="promote">Promote a version</h2>
      <form class="stack" onSubmit={(e) => { e.preventDefault(); void run(); }}>
        {form.missing !== undefined && <Note tone="warn"><p>Version <code>{form.missing}</code> of this address is none of {script}, or none of the newest {deployable}, which can be deployed. Choose another one.</p></Note>}
        <div class="columns">
          <SelectField label="Version" value={form.version} options={choices(state)} onChange={form.choose} />
          {form.others.length > 0 && <SelectField label="Beside" value={form.beside ?? ""} options={form.others.map((id) => [id, label(state, id)] as const)} onChange={form.stand} />}
        </div>
        <ShareFields form={form} problem={problem} name={state.names.name(form.version)} />
        {after && <SplitBar splits={after} name={state.names.name} series={state.names.series} />}
        <TextField label="Message" value={message} onInput={setMessage} hint="Why, for those who read the history." />
        {/* The rate changes with every look, and is not to be read out each time. */}
        {after && <p class="sentence"><span aria-live="polite">{changeSentence(serving, after, state.names.name)}</span> {movedSentence(serving, after, props.recent)}</p>}
        <Watch {...props} />
        <Refusal error={refused} names={state.names} busy={action.busy} onForce={() => void run(true)} />
        <div class="row"><Button submit look="primary" busy={action.busy} disabled={after === undefined || sameSplit(serving, after)}>Deploy this split</Button></div>
      </form>
    </section>
  );
}

/** The one version that there is has all traffic: what is next is another version. */
function Nothing({ account, script, state }: Props) {
  if (state.versions.length === 0) return null; // the page says so above
  return (
    <section class="panel" aria-labelledby="promote">
      <h2 id="promote">Promote a version</h2>
      <p>There is no other version to promote yet. <a href={scriptPage(account, script, "edit")}>Edit the code</a> and save it as a version, or upload one with <code>npx wrangler versions upload</code>: it gets no traffic until you give it some here.</p>
    </section>
  );
}

function label(state: ScriptState, id: string): string {
  const share = shareOf(state.deployments[0]?.versions ?? [], id);
  const tag = state.names.tag(id);
  return `${tag ? `${tag} · ${shortId(id)}` : shortId(id)}${share === undefined ? "" : `, serves ${percentText(share)}`}`;
}

function choices(state: ScriptState): (readonly [string, string])[] {
  const listed = state.versions.map((v) => v.id);
  const old = (state.deployments[0]?.versions ?? []).map((s) => s.version_id).filter((id) => !listed.includes(id));
  return [...listed, ...old].map((id) => [id, label(state, id)] as const);
}

/** The split that the form stands for; it is in the address, so that it can be sent to somebody. */
function useSplit(state: ScriptState) {
  const search = useSearch();
  const serving = state.deployments[0]?.versions ?? [];
  const known = choices(state).map(([id]) => id);
  const asked = search.get("promote");
  const version = asked !== undefined && known.includes(asked) ? asked : next(state.deployments, state.versions, state.names.number);
  // The text follows the address and the deployment until somebody types.
  const usual = version === undefined ? "" : String(percentage(shareOf(serving, version) ?? (serving.length === 0 ? full : firstShare)));
  const [typed, setTyped] = useState<string | undefined>();
  useEffect(() => setTyped(undefined), [version]);
  if (version === undefined) return undefined;
  const text = typed ?? search.get("share") ?? usual;
  const others = serving.map((s) => s.version_id).filter((id) => id !== version);
  const beside = others.find((id) => id === search.get("beside")) ?? [...others].sort((a, b) => shareOf(serving, b)! - shareOf(serving, a)!)[0];
  return {
    version, beside, others, text, share: parsePercent(text), missing: asked === version ? undefined : asked,
    type: setTyped,
    keep: (share: string) => { setTyped(undefined); search.set({ promote: version, share }, "replace"); },
    choose: (promote: string) => search.set({ promote, share: undefined, beside: undefined }, "replace"),
    stand: (id: string) => search.set({ beside: id }, "replace"),
    clear: () => { setTyped(undefined); search.set({ promote: undefined, share: undefined, beside: undefined }, "replace"); },
  };
}

type Form = NonNullable<ReturnType<typeof useSplit>>;

function ShareFields({ form, problem, name }: { form: Form; problem: string | undefined; name: string }) {
  const value = form.share === undefined ? 0 : percentage(form.share);
  return (
    <div class="share-fields">
      <label class="field share-slider">
        <span class="label">Share of {name}</span>
        <input type="range" min={0} max={100} step="any" value={value} aria-valuetext={`${value} %`}
          onInput={(e) => form.type(String(Math.round(e.currentTarget.valueAsNumber)))} onChange={(e) => form.keep(String(Math.round(e.currentTarget.valueAsNumber)))} />
      </label>
      <div onChange={() => { if (form.share !== undefined) form.keep(form.text); }}>
        <TextField label="Exact percentage" value={form.text} onInput={form.type} error={problem} mono />
      </div>
      <Segments label="Usual shares" options={presets} value={form.text} onChange={form.keep} />
    </div>
  );
}

/** Who looks after the version once it has traffic. */
function Watch({ account, script, state }: Props) {
  const policy = useQuery(`policy ${account} ${script}`, (signal) => orNothing(get<Schemas["Policy"]>(scriptPath(account, script, "rollback-policy"), { signal })));
  const ramp = rampText(state.ramp, state.deployments[0]?.id);
  if (ramp) return <p class="small">{ramp}: it ends when you deploy. <a href={scriptPage(account, script, "rollback")}>Hold, skip or abort it</a> instead, if that is what you mean.</p>;
  if (policy.error && policy.data === undefined) return <Problem error={policy.error} what="Whether a rollback policy watches this script could not be read." retry={policy.reload} />;
  if (policy.data === undefined) return policy.loading ? null : <p class="small">No rollback policy watches this script. <a href={scriptPage(account, script, "rollback")}>Set one</a>, so that a version that fails is taken back by itself.</p>;
  if (!policy.data.enabled) return <p class="small">The rollback policy of this script is switched off. <a href={scriptPage(account, script, "rollback")}>Switch it on</a></p>;
  const does = { rollback: "takes it back", pause: "pauses its ramp", notify: "tells you" }[policy.data.action];
  const steps = policy.data.ramp?.length ? ` A version beside the one that has all traffic goes on from its share by itself, in ${policy.data.ramp.length} steps.` : "";
  return <p class="small">A <a href={scriptPage(account, script, "rollback")}>rollback policy</a> watches the new version and {does} if it passes a limit.{steps}</p>;
}
