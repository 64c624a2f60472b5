import{c as e,n as t,o as n,t as r}from"./client-BTD95aly.js";var i=`VERSION`,a=`BACKEND`,o=[{id:`hello`,name:`Hello World`,what:`A fetch handler that answers with a greeting and its version.`,source:`export default {
  /** Answers every request. */
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    return new Response(\`Hello World from \${url.hostname}, version \${env.VERSION.tag || env.VERSION.id}\\n\`);
  },
};
`},{id:`caller`,name:`Calls another script`,what:`A fetch handler with a service binding: it passes requests on to another script of this account.`,service:!0,source:`export default {
  /** Asks another script, whose version the gateway picks by its own split. */
  async fetch(request, env, ctx) {
    const answer = await env.BACKEND.fetch(request);
    const response = new Response(answer.body, answer);
    response.headers.set("X-Called-By", env.VERSION.tag || env.VERSION.id);
    return response;
  },
};
`},{id:`scheduled`,name:`Runs on a schedule`,what:`A scheduled handler, run every five minutes until the schedule is changed, beside a fetch handler.`,schedule:`*/5 * * * *`,source:`export default {
  async fetch(request, env, ctx) {
    return new Response("Hello World: this script works by the clock\\n");
  },

  /** Runs when a schedule is due, by the version that the split picks. */
  async scheduled(controller, env, ctx) {
    console.log(\`run of \${controller.cron} by version \${env.VERSION.tag || env.VERSION.id}\`);
  },
};
`}];function s(e){return o.find(t=>t.id===e)??o[0]}var c=`index.js`,l=`2026-10-06`,u=class extends Error{script;constructor(e){super(`This account has a script “${e}” already: choose another name, or open that one and upload a version there.`),this.script=e}},d=class extends Error{script;but;constructor(e,t,n){super(`${e} is made, but ${t}`,{cause:n}),this.script=e,this.but=t}};async function f(e,i){try{await t(`GET`,n(`accounts`,e,`workers`,`workers`,i))}catch(e){if(e instanceof r&&e.status===404)return;throw e}throw new u(i)}function p(e){let t=[{name:i,type:`version_metadata`}];e.template.service&&t.push({name:a,type:`service`,service:e.service});let n={main_module:c,bindings:t,compatibility_date:l,annotations:{"workers/tag":e.tag||void 0,"workers/message":`From the template “${e.template.name}”`}},r=new FormData;return r.set(`metadata`,JSON.stringify(n)),r.set(c,new Blob([e.template.source],{type:`application/javascript+module`}),c),r}async function m(n){let{account:r,script:i,template:a}=n;if(await f(r,i),await t(`PUT`,e(r,i),{body:p(n)}),a.schedule)try{await t(`PUT`,e(r,i,`schedules`),{body:[{cron:a.schedule}]})}catch(e){throw new d(i,`its schedule “${a.schedule}” is not set: set it with wrangler or the API, or delete the script and make it again.`,e)}}async function h(n){let{account:r,script:i,url:a,tag:o}=n;await f(r,i);let s=o?{"workers/tag":o}:{},c=await t(`POST`,e(r,i,`versions`),{body:{metadata:{origin:{url:a},annotations:s}}});try{await t(`POST`,e(r,i,`deployments`),{query:{if_serving:`none`},body:{strategy:`percentage`,versions:[{version_id:c.id,percentage:100}]}})}catch(e){throw new d(i,`its version is not deployed: open it, and promote the version there.`,e)}}export{m as a,o as c,h as i,i as l,u as n,c as o,l as r,s,d as t};