// The rollback page of one script: its live state, its policy, decisions, and backtests.
import "../../styles/rollback.css";
import { useRoute } from "preact-iso";
import { useState } from "preact/hooks";
import { useQuery } from "../../lib/query";
import { useSearch } from "../../lib/url";
import { may } from "../../session";
import { Badge, Button, Loading, Note, Problem } from "../../ui/basics";
import { ScriptPage } from "../../ui/page";
import { readEvidence, readTags } from "./api";
import { BacktestView } from "./backtestview";
import { Decisions } from "./decisions";
import { isOwn, useEditing, type Editing } from "./editing";
import { BroughtBack, PolicyEditor, PolicyGuard, PolicySentences } from "./editor";
import { watch } from "./evidence";
import { Live } from "./live";
import { NotifyTest } from "./notifytest";
import { Revisions } from "./revisions";

const views = [["live", "Live state"], ["policy", "Policy"], ["decisions", "Decisions"], ["backtest", "Backtest"]] as const;
type View = (typeof views)[number][0];

export default function RollbackPage() {
  const { params } = useRoute();
  const account = params["account"]!;
  const script = params["script"]!;
  // Another script is another page: what was being edited is not for this one.
  return <OfScript key={`${account}/${script}`} account={account} script={script} />;
}

function OfScript({ account, script }: { account: string; script: string }) {
  const search = useSearch();
  const of = useEditing({ account, script });
  const tags = useQuery(`tags ${account} ${script}`, (signal) => readTags(account, script, signal));
  const asked = search.get("view");
  const view: View = search.get("decision") !== undefined ? "decisions" : (views.find(([v]) => v === asked)?.[0] ?? "live");
  // A look of the controller comes twice a second; a person reads more slowly.
  const evidence = useQuery(`evidence ${account} ${script}`, (signal) => readEvidence(account, script, signal), { every: view === "live" ? 2000 : 15_000, enabled: !!of.held?.policy });
  const props = { account, script, of, tags: tags.data };
  return (
    <ScriptPage account={account} script={script} title="Rollback" part={views.find(([v]) => v === view)![1]}>
      <PolicyGuard of={of} whose={script} />
      <nav class="views" aria-label="Parts of the rollback page">
        <ul>
          {views.map(([v, text]) => (
            <li key={v}><a href={search.link({ view: v === "live" ? undefined : v, decision: undefined, page: undefined, revision: undefined })} aria-current={v === view ? "true" : undefined}>{text}{v === "policy" && of.changed && of.held?.policy ? <span class="quiet"> (edited)</span> : null}</a></li>
          ))}
        </ul>
      </nav>
      <Problem error={of.error} what="The policy cannot be shown." retry={of.reload} />
      {of.held === undefined && of.error === undefined && <Loading what="the policy" />}
      {of.held && <Standing account={account} script={script} of={of} reason={evidence.data?.reason} />}
      {of.held && view === "live" && <Live {...props} evidence={evidence} />}
      {of.held && view === "policy" && <PolicyView {...props} />}
      {view === "decisions" && <Decisions account={account} script={script} tags={tags.data} />}
      {of.held && view === "backtest" && <BacktestView {...props} />}
    </ScriptPage>
  );
}

/** Whose policy is followed, whether it is on, and whether it judges anything. */
function Standing({ account, script, of, reason }: { account: string; script: string; of: Editing; reason: string | undefined }) {
  const policy = of.held?.policy;
  const [word, tone] = watch(policy?.enabled ?? false, reason);
  const theirs = <a href={`/${account}/rollback`}>the account’s default policy</a>;
  return (
    <p class="standing row">
      {policy ? <Badge tone={tone}>{word}</Badge> : <Badge tone="warn">No policy</Badge>}
      <span>
        {!policy && <>{script} has no policy, and there is no {theirs} either.</>}
        {policy?.source === "script" && <>{script} has a policy of its own, revision {policy.revision}; {theirs} does not hold for it.</>}
        {policy?.source === "account" && <>{script} follows {theirs}, revision {policy.revision}.</>}
      </span>
    </p>
  );
}

function PolicyView({ account, script, of }: { account: string; script: string; of: Editing }) {
  const [own, setOwn] = useState(false);
  const held = of.held?.policy;
  const follows = held?.source === "account" && !own && !of.changed;
  const targets = held?.notify?.length ?? 0;
  return (
    <div class="stack">
      {follows ? (
        <PolicySentences policy={held} title="What the account’s default policy says">
          <div class="row">
            {may("policy:edit") && <Button onClick={() => setOwn(true)}>Give {script} a policy of its own</Button>}
            <a class="button" href={`/${account}/rollback`}>Edit the account’s</a>
          </div>
        </PolicySentences>
      ) : (
        <>
          {held?.source === "account" && <Note>The fields begin with what the account’s default says. Addresses that are shown with *** must be given whole. Nothing holds before you save.</Note>}
          <BroughtBack of={of} />
          <PolicyEditor of={of} whose={script} />
        </>
      )}
      {targets > 0 && may("policy:edit") && <NotifyTest account={account} script={script} targets={targets} changed={of.changed} />}
      <Revisions of={of} own={isOwn(of.owner, of.held)} />
    </div>
  );
}
