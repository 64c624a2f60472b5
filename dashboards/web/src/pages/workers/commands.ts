// Commands that a person copies into a shell, and what stands around them.
import type { Schemas } from "../../api/client";
import { quote } from "../../lib/shell";

/** A request that one version answers; it must be part of the active deployment. */
export function overrideCommand(url: string, script: string, version: string): string {
  return `curl -i -H ${quote(`Cloudflare-Workers-Version-Overrides: ${script}="${version}"`)} ${url}`;
}

export function keyCommand(url: string): string {
  return `curl -i -H ${quote("Cloudflare-Workers-Version-Key: customer-42")} ${url}`;
}

/** The host of one version; undefined where the server does not know the gateway's address. */
export function previewUrl(hosts: Schemas["Worker"]["subdomain"], version: string): string | undefined {
  if (!hosts.url || !hosts.preview_url_suffix) return undefined;
  return `${new URL(hosts.url).protocol}//${version.slice(0, 8)}${hosts.preview_url_suffix}/`;
}

function ruleText(rule: Schemas["AffinityRule"]): string {
  switch (rule.source) {
    case "header": return `the header ${rule.name}`;
    case "cookie": return `the cookie ${rule.name}`;
    case "query": return `the query parameter ${rule.name}`;
    case "client_ip": return "the address of the client";
    case "path": return rule.prefix ? `the path after ${rule.prefix}` : `segment ${rule.segment} of the path`;
  }
}

/** Where the key of a request is looked for, in a sentence. */
export function affinityText(rules: readonly Schemas["AffinityRule"][]): string {
  const header = "the header Cloudflare-Workers-Version-Key";
  if (rules.length === 0) return `The key is ${header}; this script has no affinity rules that find another one.`;
  return `The key is ${header}, else ${rules.map(ruleText).join(", else ")}.`;
}
