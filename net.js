import { connect } from "cloudflare:sockets";
export default { async fetch(req, env, ctx) {
  const q = new URL(req.url).searchParams;
  const targets = JSON.parse(await req.text());
  const out = {};
  for (const t of targets) {
    try {
      if (t.startsWith("sock:")) {
        const s = connect(t.slice(5)); 
        const r = await Promise.race([s.opened.then(i=>"OPENED "+JSON.stringify(i)), new Promise(r=>setTimeout(()=>r("timeout"),3000))]);
        out[t]=r; try{ s.close() }catch{}
      } else {
        const r = await fetch(t, {signal: AbortSignal.timeout(3000)});
        out[t] = "STATUS "+r.status+" "+(await r.text()).slice(0,60);
      }
    } catch (e) { out[t] = "ERR "+e.message.slice(0,100); }
  }
  return Response.json(out);
}};
