// Creates a job.
import { useRoute } from "preact-iso";
import { may } from "../../session";
import { Note } from "../../ui/basics";
import { Page } from "../../ui/page";
import { JobForm } from "./form";

export default function NewJob() {
  const account = useRoute().params["account"]!;
  return (
    <Page title="Create a Logpush job" crumbs={[{ text: "Logpush", href: `/${account}/logpush` }]}>
      {may("logs:edit") ? <JobForm account={account} /> : <Note tone="warn">Sign in with a token that has the scope <code>logs:edit</code> to create a job.</Note>}
    </Page>
  );
}
