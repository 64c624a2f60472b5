// Changes the settings of a job.
import { useRoute } from "preact-iso";
import { useQuery } from "../../lib/query";
import { Loading, Note, Problem } from "../../ui/basics";
import { loadJob } from "./api";
import { JobForm } from "./form";
import { jobTitle, JobPage } from "./parts";

export default function EditJob() {
  const params = useRoute().params;
  const account = params["account"]!;
  const id = params["id"]!;
  const stored = useQuery(`logpush job ${account} ${id}`, (signal) => loadJob(account, id, signal));
  const name = stored.data ? jobTitle(stored.data.job) : `Job ${id}`;
  return (
    <JobPage account={account} id={id} name={name} title={`Settings of ${name}`}>
      {stored.data
        ? (
          <div class="stack">
            {stored.data.job.logpull_options && !stored.data.job.output_options && <Note>The output of this job is said by <code>logpull_options</code>, which is deprecated. Saving writes the same as <code>output_options</code>.</Note>}
            <JobForm key={id} account={account} stored={stored.data} />
          </div>
        )
        : stored.error ? <Problem error={stored.error} what="The job could not be read." retry={stored.reload} /> : <Loading what="the job" />}
    </JobPage>
  );
}
