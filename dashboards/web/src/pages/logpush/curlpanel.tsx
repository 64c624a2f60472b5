// The command that does the same as the form's button.
import { useState } from "preact/hooks";
import { CheckField, Copy } from "../../ui/basics";
import { jobPath, logpushPath } from "./api";
import { curl } from "./curl";
import { maskConf } from "./destination";
import type { JobBody } from "./draft";

export function CurlPanel(props: { account: string; id?: string | undefined; body: JobBody }) {
  const [shown, setShown] = useState(false);
  const body = { ...props.body };
  if (!shown) {
    if (body.destination_conf) body.destination_conf = maskConf(body.destination_conf);
    if (body.ownership_challenge) body.ownership_challenge = "***";
  }
  const url = location.origin + (props.id ? jobPath(props.account, props.id) : logpushPath(props.account, "jobs"));
  const command = curl(props.id ? "PUT" : "POST", url, body);
  return (
    <details class="panel">
      <summary><strong>The same with curl</strong></summary>
      <div class="stack logpush-details">
        <p class="small quiet">Set TOKEN to an API token with the scope <code>logs:edit</code>.{!shown && " Credentials are replaced by ***: show them to get a command that works."}</p>
        <pre class="logpush-output" tabIndex={0} aria-label="Command">{command}</pre>
        <div class="row spread">
          <CheckField label="Show credentials as typed" checked={shown} onChange={setShown} />
          <Copy text={command} what="the command" />
        </div>
      </div>
    </details>
  );
}
