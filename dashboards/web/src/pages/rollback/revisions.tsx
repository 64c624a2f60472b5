// Who changed a policy, when and how, and a way back.
import { useQuery } from "../../lib/query";
import { useSearch } from "../../lib/url";
import { Badge, Button, Problem, Time } from "../../ui/basics";
import { toast } from "../../ui/toast";
import { readRevisions, type Revision } from "./api";
import type { Editing } from "./editing";
import { Difference, PolicySentences } from "./editor";

/** The revision that holds, if `of` is the owner's own policy. */
export function Revisions({ of, own }: { of: Editing; own: boolean }) {
  const search = useSearch();
  const answer = useQuery(`revisions ${of.owner.account} ${of.owner.script ?? ""} ${of.held?.etag}`, (signal) => readRevisions(of.owner, signal));
  const list = answer.data ?? [];
  const selected = Number(search.get("revision"));
  const use = (revision: Revision): void => {
    of.load(revision.policy!);
    toast(`Revision ${revision.revision} stands in the fields. It holds when you save it.`);
    search.set({ revision: undefined });
    document.querySelector(".policy")?.scrollIntoView();
  };
  if (answer.error) return <Problem error={answer.error} what="The revisions cannot be listed." retry={answer.reload} />;
  if (list.length === 0) return null;
  return (
    <section class="panel" aria-labelledby="revisions">
      <h2 id="revisions">Revisions</h2>
      <ol class="revisions">
        {list.map((r, i) => (
          <li key={r.revision}>
            <details open={r.revision === selected}>
              <summary>
                <strong>Revision {r.revision}</strong> {own && r.revision === of.held?.policy?.revision && <Badge tone="good">Holds</Badge>} {!r.policy && <Badge>Deleted</Badge>}{" "}
                <span class="quiet">{r.modified_by || "an unknown person"}, <Time at={r.modified_on} /></span>
              </summary>
              <div class="stack">
                <Changes revision={r} before={list[i + 1]} />
                {r.policy && <div class="row"><Button compact onClick={() => use(r)}>Use revision {r.revision} again</Button></div>}
              </div>
            </details>
          </li>
        ))}
      </ol>
    </section>
  );
}

function Changes(props: { revision: Revision; before: Revision | undefined }) {
  const { revision, before } = props;
  if (!revision.policy) return <p>The policy was deleted.</p>;
  if (!before?.policy) return <PolicySentences policy={revision.policy} title={`What revision ${revision.revision} said`} />;
  return <Difference before={before.policy} after={revision.policy} />;
}
