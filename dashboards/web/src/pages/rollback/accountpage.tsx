// The account's default policy, for scripts that have none of their own.
import "../../styles/rollback.css";
import { useRoute } from "preact-iso";
import { Badge, Loading, Problem } from "../../ui/basics";
import { Page } from "../../ui/page";
import { useEditing } from "./editing";
import { BroughtBack, PolicyEditor, PolicyGuard } from "./editor";
import { Revisions } from "./revisions";

export default function AccountRollbackPage() {
  const account = useRoute().params["account"]!;
  return <OfAccount key={account} account={account} />;
}

function OfAccount({ account }: { account: string }) {
  const of = useEditing({ account, script: undefined });
  const policy = of.held?.policy;
  return (
    <Page title="Default rollback policy">
      <PolicyGuard of={of} whose="the account" />
      <Problem error={of.error} what="The policy cannot be shown." retry={of.reload} />
      {of.held === undefined && of.error === undefined && <Loading what="the policy" />}
      {of.held && (
        <div class="stack">
          <p class="standing row">
            {policy ? <Badge tone={policy.enabled ? "good" : "warn"}>{policy.enabled ? "On" : "Off"}</Badge> : <Badge tone="warn">No policy</Badge>}
            <span>{policy ? "Every script of this account that has no policy of its own follows this one, from the moment it is saved." : "There is none yet: scripts without a policy of their own are not watched. The fields say what you would save."}</span>
          </p>
          <BroughtBack of={of} />
          <PolicyEditor of={of} whose="the account" />
          <Revisions of={of} own />
        </div>
      )}
    </Page>
  );
}
