// The form of a job, new or stored.
import "../../styles/logpush.css";
import type { ComponentChildren } from "preact";
import { useRef, useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { ApiError, get } from "../../api/client";
import { serverNow } from "../../lib/clock";
import { findDraft, tabStorage } from "../../lib/drafts";
import { fromInput, toInput } from "../../lib/moments";
import { useAction, useMounted, useQuery } from "../../lib/query";
import { zoneName } from "../../lib/time";
import { Button, CheckField, LinkButton, Loading, Note, Problem, TextField, Time } from "../../ui/basics";
import { LeaveGuard } from "../../ui/leave";
import { toast } from "../../ui/toast";
import { createJob, datasetPath, loadJob, updateJob, type StoredJob } from "./api";
import { CurlPanel } from "./curlpanel";
import { missingOf, needsChallenge, parseConf } from "./destination";
import { DestinationForm } from "./destinationform";
import { DestinationTest, OwnershipProof } from "./destinationtest";
import { bodyOf, dataset, differingMembers, draftOf, fieldErrors, newDraft, problemsOf, type Draft, type FieldErrors, type Job } from "./draft";
import { draftOfKept, isKept, keptOf, keyOf, useKept, type Kept } from "./kept";
import { FieldsForm } from "./fieldsform";
import type { FilterKey } from "./filter";
import { FilterForm } from "./filterform";
import { BatchForm, OutputForm } from "./outputform";
import { jobTitle } from "./parts";
import { PreviewPanel } from "./preview";

interface Known {
  keys: FilterKey[];
  fields: Record<string, string>;
  standard: string[];
}

export function JobForm(props: { account: string; stored?: StoredJob }) {
  const [begun, setBegun] = useState(props.stored);
  const known = useQuery(`logpush fields ${props.account}`, async (signal): Promise<Known> => {
    const [keys, fields, standard] = await Promise.all([
      get<FilterKey[]>(datasetPath(props.account, "filter-keys"), { signal }),
      get<Record<string, string>>(datasetPath(props.account, "fields"), { signal }),
      get<Record<string, string>>(datasetPath(props.account, "fields/default"), { signal }),
    ]);
    return { keys, fields, standard: Object.keys(standard) };
  });
  const [back, setBack] = useState(() => findDraft(tabStorage(), keyOf(props.account, props.stored && String(props.stored.job.id)), isKept));
  const onTheirs = (theirs: StoredJob): void => {
    setBack(undefined);
    setBegun(theirs);
  };
  if (known.data) return <Fields key={back ? "back" : begun?.etag} account={props.account} begun={begun} back={back} known={known.data} onTheirs={onTheirs} onDiscard={() => setBack(undefined)} />;
  return known.error ? <Problem error={known.error} what="The dataset’s fields could not be read." retry={known.reload} /> : <Loading what="the dataset’s fields" />;
}

interface Props {
  account: string;
  known: Known;
  /** The job that the fields begin with. */
  begun: StoredJob | undefined;
  /** What this tab kept of an earlier form, which goes on in this one. */
  back: Kept | undefined;
  /** Has the fields begin again with what somebody else saved. */
  onTheirs: (theirs: StoredJob) => void;
  /** Has them begin again without what was kept. */
  onDiscard: () => void;
}

function Fields({ account, known, begun, back, onTheirs, onDiscard }: Props) {
  const { route } = useLocation();
  const mounted = useMounted();
  const form = useRef<HTMLFormElement>(null);
  // With the mark of the settings that were changed, so that those of somebody else are not replaced unseen.
  const [held, setHeld] = useState(begun && back?.etag ? { ...begun, etag: back.etag } : begun);
  // What somebody else saved since the fields were filled.
  const [conflict, setConflict] = useState<StoredJob>();
  const clean = held ? draftOf(held.job) : newDraft();
  const [draft, setDraft] = useState(() => (back ? draftOfKept(back, clean) : clean));
  const [errors, setErrors] = useState<FieldErrors>({});
  const change = (part: Partial<Draft>): void => setDraft((d) => ({ ...d, ...part }));
  const before = held?.job;
  const id = before && String(before.id);
  const body = bodyOf(draft, before);
  const saved = useRef(false);
  const unsaved = JSON.stringify(draft) !== JSON.stringify(clean);
  const kept = useKept(account, id, () => (unsaved && !saved.current ? keptOf(draft, clean, held?.etag, serverNow()) : undefined), [draft, held]);
  const save = useAction(async () => {
    try {
      const local = { ...problemsOf(draft, before), ...missingDestination(draft.conf) };
      if (Object.keys(local).length > 0) throw new Invalid(local);
      const job = id ? await updateJob(account, id, body, held?.etag) : await createJob(account, body);
      saved.current = true;
      toast(id ? `${jobTitle(job)} is saved.` : `${jobTitle(job)} is created${job.enabled ? " and delivers from now on" : ""}.`);
      if (mounted()) route(`/${account}/logpush/${job.id}`);
    } catch (error) {
      if (id && error instanceof ApiError && error.status === 412) {
        setConflict(await loadJob(account, id));
        return;
      }
      setErrors(error instanceof Invalid ? error.fields : fieldErrors(error));
      // After the fields have their errors.
      setTimeout(() => form.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus());
      throw error;
    }
  });
  const keepMine = (): void => {
    setHeld(conflict);
    setConflict(undefined);
  };
  const destination = parseConf(draft.conf);
  const asksProof = "/ownership_challenge" in errors || (destination !== undefined && needsChallenge(destination) && draft.conf !== before?.destination_conf);
  return (
    <form ref={form} class="stack" noValidate onSubmit={(e) => { e.preventDefault(); void save.run(); }}>
      <LeaveGuard unsaved={unsaved}>
        {id ? "What you changed of the job is not saved" : "The job is not created yet"}{kept ? ". This browser tab keeps what you entered, without credentials of the destination, until you come back." : ", and what you entered would be lost."}
      </LeaveGuard>
      {back && (
        <Note tone={back.lacking ? "warn" : "accent"}>
          <p>This is what you entered <Time at={back.at} />, and did not save.{back.lacking && " Credentials are not kept: enter those of the destination again, and the proof of ownership where one is asked for."}</p>
          <div class="row"><Button compact onClick={onDiscard}>{id ? "Discard it, and begin with the job as it is" : "Discard it, and begin with an empty form"}</Button></div>
        </Note>
      )}
      <Section title="Job">
        <div class="columns">
          <TextField label="Name" value={draft.name} onInput={(name) => change({ name })} error={errors["/name"]} hint="Letters, digits, dots, underscores and hyphens. May be empty." placeholder="shop-errors" />
          <div class="field"><span class="label">Dataset</span><span><code>{dataset}</code></span><span class="hint">One record for each invocation of a Worker or request to an origin. It is the only dataset, and the kind of a job is always the standard one.</span></div>
        </div>
        {!before && <StartFields draft={draft} onChange={change} error={errors["/start"]} />}
      </Section>
      <Section title="Destination">
        <DestinationForm conf={draft.conf} onChange={(conf) => change({ conf })} error={errors["/destination_conf"]} />
        {asksProof && <OwnershipProof account={account} conf={draft.conf} challenge={draft.challenge} onChange={(challenge) => change({ challenge })} error={errors["/ownership_challenge"]} />}
        <DestinationTest account={account} conf={draft.conf} />
      </Section>
      <Section title="Which events">
        <FilterForm text={draft.filter} keys={known.keys} onChange={(filter) => change({ filter })} error={errors["/filter"]} />
        <div class="logpush-narrow">
          <TextField label="Sampling rate" value={draft.sample} onInput={(sample) => change({ sample })} error={errors["/output_options/sample_rate"]} placeholder="1" hint="The share of the events that the filter lets through: 0.1 is one in ten. Empty sends all." />
        </div>
      </Section>
      <Section title="Which fields">
        <FieldsForm known={known.fields} standard={known.standard} fields={draft.fields} onChange={(fields) => change({ fields })} error={errors["/output_options/field_names"]} />
      </Section>
      <Section title="Output"><OutputForm draft={draft} onChange={change} errors={errors} /></Section>
      <Section title="Batches"><BatchForm draft={draft} onChange={change} errors={errors} /></Section>
      <PreviewPanel account={account} id={id} body={body} onError={(error) => setErrors(fieldErrors(error))} />
      <CurlPanel account={account} id={id} body={body} />
      {conflict && <Conflict before={before!} theirs={conflict.job} onTheirs={() => onTheirs(conflict)} onMine={keepMine} />}
      <Problem error={save.error} what={id ? "The job is not saved." : "The job is not created."} />
      <div class="row">
        <Button look="primary" submit busy={save.busy}>{id ? "Save the job" : "Create the job"}</Button>
        <LinkButton href={`/${account}/logpush${id ? `/${id}` : ""}`}>Cancel</LinkButton>
      </div>
    </form>
  );
}

function Conflict(props: { before: Job; theirs: Job; onTheirs: () => void; onMine: () => void }) {
  const changed = differingMembers(props.before, props.theirs);
  return (
    <Note tone="warn" live>
      <p><strong>Somebody saved this job while you were editing.</strong> Nothing of yours was saved.</p>
      {changed.length > 0 && <p>Theirs changed {changed.map((name, i) => <span key={name}>{i > 0 && ", "}<code>{name}</code></span>)}.</p>}
      <div class="row">
        <Button compact onClick={props.onTheirs}>Take theirs, drop mine</Button>
        <Button compact onClick={props.onMine}>Keep mine: it replaces theirs when I save</Button>
      </div>
    </Note>
  );
}

/** What the form itself knows to be wrong, before the API is asked. */
class Invalid extends Error {
  constructor(readonly fields: FieldErrors) {
    super(Object.values(fields).join(" "));
  }
}

function missingDestination(conf: string): FieldErrors {
  if (conf === "") return { "/destination_conf": "Choose where the job delivers to." };
  const destination = parseConf(conf);
  const missing = destination ? missingOf(destination) : [];
  return missing.length > 0 ? { "/destination_conf": `The destination needs: ${missing.join(", ")}.` } : {};
}

function Section(props: { title: string; children: ComponentChildren }) {
  return <section class="panel"><h2>{props.title}</h2><div class="stack">{props.children}</div></section>;
}

function StartFields(props: { draft: Draft; onChange: (part: Partial<Draft>) => void; error: string | undefined }) {
  const { draft, onChange } = props;
  const dayAgo = (): string => new Date(serverNow().getTime() - 24 * 3600 * 1000).toISOString();
  return (
    <div class="stack">
      <CheckField label="Deliver from the moment it is created" checked={draft.enabled} onChange={(enabled) => onChange({ enabled, ...(enabled ? {} : { start: "" }) })} />
      {draft.enabled && <CheckField label="Send earlier events, too" checked={draft.start !== ""} onChange={(on) => onChange({ start: on ? dayAgo() : "" })} />}
      {draft.start !== "" && (
        <div class="logpush-narrow">
          <TextField label={`From (${zoneName()})`} type="datetime-local" value={toInput(new Date(draft.start))} onInput={(text) => fromInput(text) !== "" && onChange({ start: fromInput(text) })} error={props.error}
            hint="A replay sends the events from this time on, up to where live delivery begins." />
        </div>
      )}
    </div>
  );
}
