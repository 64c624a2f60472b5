// What a new script may begin with. Each is a module worker that runs as it is, and says
// which version answered, because that is what a gradual deployment is about.

export interface Template {
  id: string;
  name: string;
  what: string;
  /** Whether it calls another script, by the binding BACKEND. */
  service?: boolean;
  /** A cron expression that runs it. */
  schedule?: string;
  source: string;
}

export const versionBinding = "VERSION";
export const serviceBinding = "BACKEND";

const hello = `export default {
  /** Answers every request. */
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    return new Response(\`Hello World from \${url.hostname}, version \${env.VERSION.tag || env.VERSION.id}\\n\`);
  },
};
`;

const caller = `export default {
  /** Asks another script, whose version the gateway picks by its own split. */
  async fetch(request, env, ctx) {
    const answer = await env.BACKEND.fetch(request);
    const response = new Response(answer.body, answer);
    response.headers.set("X-Called-By", env.VERSION.tag || env.VERSION.id);
    return response;
  },
};
`;

const scheduled = `export default {
  async fetch(request, env, ctx) {
    return new Response("Hello World: this script works by the clock\\n");
  },

  /** Runs when a schedule is due, by the version that the split picks. */
  async scheduled(controller, env, ctx) {
    console.log(\`run of \${controller.cron} by version \${env.VERSION.tag || env.VERSION.id}\`);
  },
};
`;

export const templates: readonly Template[] = [
  { id: "hello", name: "Hello World", what: "A fetch handler that answers with a greeting and its version.", source: hello },
  { id: "caller", name: "Calls another script", what: "A fetch handler with a service binding: it passes requests on to another script of this account.", service: true, source: caller },
  { id: "scheduled", name: "Runs on a schedule", what: "A scheduled handler, run every five minutes until the schedule is changed, beside a fetch handler.", schedule: "*/5 * * * *", source: scheduled },
];

export function templateOf(id: string | undefined): Template {
  return templates.find((t) => t.id === id) ?? templates[0]!;
}
