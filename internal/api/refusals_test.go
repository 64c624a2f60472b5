package api_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/schema/control"
)

// picture is all that a refused request might have changed.
func (p *platform) picture(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, path := range []string{
		"/logpush/jobs", "/tokens", "/workers/scripts", "/workers/scripts/shop/versions", "/workers/scripts/shop/deployments",
		"/workers/scripts/shop/affinity", "/workers/scripts/shop/sampling", "/workers/scripts/shop/rollback-policy", "/workers/scripts/shop/script-settings", "/routing/snapshot",
	} {
		fmt.Fprintln(&b, p.call(t, http.MethodGet, path, "").text)
	}
	fmt.Fprintln(&b, p.do(t, http.MethodGet, "/client/v4/accounts", bearer(p.token), "").text)
	return b.String()
}

func TestBadInputIsRefusedByName(t *testing.T) {
	p := newPlatform(t)
	v1, v2, v3 := p.upload(t, "shop", "v1"), p.upload(t, "shop", "v2"), p.upload(t, "shop", "v3")
	foreign := p.upload(t, "other", "v1")
	if _, err := p.Deploy(t.Context(), account, "shop", []deploy.Split{split(v1, 100)}, ""); err != nil {
		t.Fatal(err)
	}
	if a := p.call(t, http.MethodPost, "/logpush/jobs", published); a.status != http.StatusOK {
		t.Fatalf("answered %d %s", a.status, a.text)
	}

	const (
		jobs        = "/logpush/jobs"
		job         = "/logpush/jobs/1"
		versions    = "/workers/scripts/shop/versions"
		deployments = "/workers/scripts/shop/deployments"
		policy      = "/workers/scripts/shop/rollback-policy"
		routes      = "/workers/scripts/shop/routes"
		affinity    = "/workers/scripts/shop/affinity"
		sampling    = "/workers/scripts/shop/sampling"
		settings    = "/workers/scripts/shop/script-settings"
		tokens      = "/tokens"
	)
	const post, put, patch = http.MethodPost, http.MethodPut, http.MethodPatch
	jobWith := func(members string) string {
		return `{"dataset": "workers_trace_events", "destination_conf": "https://logs.example.com/", ` + members + `}`
	}
	splits := func(list ...string) string {
		return `{"strategy": "percentage", "versions": [` + strings.Join(list, ", ") + `]}`
	}
	part := func(v deploy.Version, percentage string) string {
		return fmt.Sprintf(`{"version_id": %q, "percentage": %s}`, v.ID, percentage)
	}
	update := func(strategy string) string {
		return `{"strategy": "percentage", "versions": [` + part(v1, "100") + `], "code_update_strategy": ` + strategy + `}`
	}
	origin := func(url string) string { return fmt.Sprintf(`{"metadata": {"origin": {"url": %q}}}`, url) }
	annotated := func(annotations string) string {
		return `{"metadata": {"origin": {"url": "http://a"}, "annotations": {` + annotations + `}}}`
	}

	before := p.picture(t)
	for name, c := range map[string]struct {
		method, path, body string
		status, code       int
		pointer            string
		parts              []string
	}{
		"empty body":       {post, deployments, ``, 400, 10001, "", []string{"empty"}},
		"no JSON":          {post, deployments, `{"strategy"`, 400, 10001, "", []string{"not valid JSON"}},
		"two documents":    {post, deployments, splits(part(v1, "100")) + `{}`, 400, 10001, "", []string{"goes on"}},
		"an array":         {post, deployments, `[]`, 400, 10001, "", []string{"an array", "an object"}},
		"unknown member":   {post, deployments, `{"strategy": "percentage", "colour": 1}`, 400, 10001, "/colour", []string{"colour", "annotations, code_update_strategy, strategy, versions"}},
		"other case":       {post, deployments, `{"Strategy": "percentage"}`, 400, 10001, "/Strategy", []string{"Strategy"}},
		"repeated member":  {post, deployments, `{"strategy": "x", "strategy": "percentage"}`, 400, 10001, "/strategy", []string{"strategy appears twice"}},
		"no strategy":      {post, deployments, `{"versions": []}`, 400, 10001, "/strategy", []string{"strategy"}},
		"bad strategy":     {post, deployments, `{"strategy": "canary", "versions": []}`, 400, 10001, "/strategy", []string{"canary"}},
		"no versions":      {post, deployments, splits(), 400, 10001, "/versions", []string{"versions is empty"}},
		"wrong type":       {post, deployments, splits(part(v1, `"ten"`)), 400, 10001, "/versions/0/percentage", []string{"versions[0].percentage", `"ten"`, "a number"}},
		"over 100":         {post, deployments, splits(part(v1, "100.5")), 400, 10001, "/versions/0/percentage", []string{"versions[0].percentage", "100.5"}},
		"negative":         {post, deployments, splits(part(v1, "-1"), part(v2, "101")), 400, 10001, "/versions/0/percentage", []string{"-1"}},
		"sum too small":    {post, deployments, splits(part(v1, "90"), part(v2, "9.99")), 400, 10001, "/versions", []string{"99.99%"}},
		"sum rounded down": {post, deployments, splits(part(v1, "50.00149"), part(v2, "50.00049")), 400, 10001, "/versions", []string{"100.00198%"}},
		"sum rounded up":   {post, deployments, splits(part(v1, "49.9985"), part(v2, "50")), 400, 10001, "/versions", []string{"99.9985%"}},
		"no UUID":          {post, deployments, `{"strategy": "percentage", "versions": [{"version_id": "v1", "percentage": 100}]}`, 400, 10001, "/versions/0/version_id", []string{"versions[0].version_id", "v1", "UUID"}},
		"update mode":      {post, deployments, update(`{"mode": "later"}`), 400, 10001, "/code_update_strategy/mode", []string{"code_update_strategy.mode", "later"}},
		"update delay":     {post, deployments, update(`{"max_delay": 86401}`), 400, 10001, "/code_update_strategy/max_delay", []string{"max_delay", "86401"}},
		"update at once":   {post, deployments, update(`{"mode": "immediate", "max_delay": 1}`), 400, 10001, "/code_update_strategy/max_delay", []string{"max_delay is 1", "immediate"}},
		"update member":    {post, deployments, update(`{"delay": 1}`), 400, 10001, "/code_update_strategy/delay", []string{"code_update_strategy.delay"}},
		"sum too large":    {post, deployments, splits(part(v1, "90"), part(v2, "10.002")), 400, 10001, "/versions", []string{"100.002%"}},
		"three versions":   {post, deployments, splits(part(v1, "50"), part(v2, "25"), part(v3, "25")), 400, 10001, "/versions", []string{"3 entries", "at most 2"}},
		"repeated version": {post, deployments, splits(part(v1, "50"), part(v1, "50")), 400, 10001, "/versions/1/version_id", []string{v1.ID}},
		"unknown version":  {post, deployments, splits(part(foreign, "100")), 400, 10001, "/versions/0/version_id", []string{foreign.ID, "shop"}},
		"no percentage":    {post, deployments, `{"strategy": "percentage", "versions": [{"version_id": "x"}]}`, 400, 10001, "/versions/0", []string{"versions[0]", "percentage"}},
		"own trigger": {post, deployments, `{"strategy": "percentage", "versions": [` + part(v1, "100") + `], "annotations": {"workers/triggered_by": "me"}}`,
			400, 10001, "/annotations/workers~1triggered_by", []string{"workers/triggered_by", "me"}},
		"unknown script": {post, "/workers/scripts/none/deployments", splits(part(v1, "100")), 404, 10007, "", []string{"none"}},

		"no origin":         {post, versions, `{"metadata": {}}`, 400, 10001, "/metadata/origin", []string{"metadata.origin"}},
		"relative origin":   {post, versions, origin("/x"), 400, 10001, "/metadata/origin/url", []string{"/x", "absolute"}},
		"bad scheme":        {post, versions, origin("ftp://a/"), 400, 10001, "/metadata/origin/url", []string{"ftp://a/"}},
		"origin with query": {post, versions, origin("http://a/?x=1"), 400, 10001, "/metadata/origin/url", []string{"query"}},
		"origin with user":  {post, versions, origin("http://me:secret@a/"), 400, 10001, "/metadata/origin/url", []string{"user name"}},
		"origin's password": {post, versions, origin("http://me:secret@a:x/"), 400, 10001, "/metadata/origin/url", []string{"http://a:x/", "not a URL"}},
		"origin's port":     {post, versions, origin("http://127.0.0.1:99999"), 400, 10001, "/metadata/origin/url", []string{"http://127.0.0.1:99999", "65535"}},
		"origin's host":     {post, versions, origin("http://a..b/"), 400, 10001, "/metadata/origin/url", []string{"http://a..b/", "host"}},
		"long tag":          {post, versions, annotated(`"workers/tag": "` + strings.Repeat("t", 101) + `"`), 400, 10001, "/metadata/annotations/workers~1tag", []string{"101 bytes"}},
		"trigger":           {post, versions, annotated(`"workers/triggered_by": "upload"`), 400, 10001, "/metadata/annotations/workers~1triggered_by", []string{"upload"}},
		"alias digit":       {post, versions, annotated(`"workers/alias": "1st"`), 400, 10001, "/metadata/annotations/workers~1alias", []string{"1st"}},
		"alias too long":    {post, versions, annotated(`"workers/alias": "a` + strings.Repeat("b", 58) + `"`), 400, 10001, "/metadata/annotations/workers~1alias", []string{"63"}},
		"unknown annotation": {post, versions, annotated(`"workers/color": "x"`), 400, 10001, "/metadata/annotations/workers~1color",
			[]string{"metadata.annotations.workers/color"}},
		"script name":       {post, "/workers/scripts/Shop/versions", origin("http://a"), 400, 10001, "", []string{"Shop"}},
		"script name dash":  {post, "/workers/scripts/-shop/versions", origin("http://a"), 400, 10001, "", []string{"-shop"}},
		"script name long":  {post, "/workers/scripts/" + strings.Repeat("s", 64) + "/versions", origin("http://a"), 400, 10001, "", []string{"63"}},
		"too large":         {post, versions, `{"metadata": "` + strings.Repeat("x", 1<<20) + `"}`, 413, 10027, "", []string{"1048576"}},
		"too large for job": {post, jobs, `{"name": "` + strings.Repeat("x", 1<<20) + `"}`, 413, 1002, "", []string{"1048576"}},
		"route":             {put, routes, `[{"pattern": "a.example.com/*"}, {"pattern": "*x*/"}]`, 400, 10001, "/1/pattern", []string{"*x*/"}},
		"repeated route":    {put, routes, `[{"pattern": "a.example.com/*"}, {"pattern": "A.example.com/*"}]`, 400, 10001, "/1/pattern", []string{"a.example.com/*", "repeated"}},
		"null routes":       {put, routes, `null`, 400, 10001, "", []string{"null"}},
		"tag":               {patch, settings, `{"tags": ["a", ""]}`, 400, 10001, "/tags/1", []string{"tags[1]"}},
		"setting":           {patch, settings, `{"logpush": "no"}`, 400, 10001, "/logpush", []string{"logpush", `"no"`, "true or false"}},

		"unknown job member": {post, jobs, jobWith(`"colour": "red"`), 400, 1002, "/colour", []string{"colour"}},
		"job type":           {post, jobs, jobWith(`"enabled": "yes"`), 400, 1002, "/enabled", []string{"enabled", `"yes"`, "true or false"}},
		"option member":      {post, jobs, jobWith(`"output_options": {"colour": 1}`), 400, 1002, "/output_options/colour", []string{"output_options.colour"}},
		"unknown field":      {post, jobs, jobWith(`"output_options": {"field_names": ["Outcome", "ClientIP"]}`), 403, 1004, "", []string{"ClientIP"}},
		"bad filter":         {post, jobs, jobWith(`"filter": "{\"where\":{\"key\":\"Event\",\"operator\":\"eq\",\"value\":\"x\"}}"`), 403, 1004, "", []string{"Event"}},
		"filter type":        {post, jobs, jobWith(`"filter": {"where": {}}`), 400, 1002, "/filter", []string{"filter", "a string"}},
		"other dataset":      {post, jobs, `{"dataset": "http_requests", "destination_conf": "https://a/"}`, 400, 1002, "/dataset", []string{"http_requests"}},
		"no destination":     {post, jobs, `{"dataset": "workers_trace_events"}`, 400, 1002, "/destination_conf", []string{"destination_conf"}},
		"bad destination":    {post, jobs, `{"dataset": "workers_trace_events", "destination_conf": "nonsense"}`, 400, 1002, "/destination_conf", []string{"destination_conf"}},
		"failed test upload": {post, jobs, `{"dataset": "workers_trace_events", "destination_conf": "https://refused.example.com/"}`, 400, 1002, "/destination_conf",
			[]string{"error validating destination: error writing object"}},
		"failed test on change": {put, job, `{"destination_conf": "https://refused.example.com/"}`, 400, 1002, "/destination_conf", []string{"error validating destination"}},
		"silent destination":    {put, job, `{"destination_conf": "https://silent.example.com/"}`, 400, 1002, "/destination_conf", []string{"error validating destination: context deadline exceeded"}},
		"changed dataset":       {put, job, `{"dataset": "http_requests"}`, 400, 1002, "/dataset", []string{"http_requests"}},
		"bound":                 {put, job, `{"max_upload_records": 7}`, 400, 1002, "/max_upload_records", []string{"max_upload_records", "7"}},
		"unknown job":           {put, "/logpush/jobs/99", `{"enabled": false}`, 404, 1002, "", []string{"99"}},
		"no job id":             {put, "/logpush/jobs/x", `{"enabled": false}`, 404, 1002, "", []string{"x"}},
		"no destination_conf":   {post, "/logpush/validate/destination", `{}`, 400, 1002, "/destination_conf", []string{"destination_conf"}},

		"policy without enabled": {put, policy, `{}`, 400, 10001, "/enabled", []string{"enabled"}},
		"policy rate":            {put, policy, `{"enabled": true, "max_failure_rate": 2}`, 400, 10001, "/max_failure_rate", []string{"max_failure_rate", "2"}},
		"policy ratio":           {put, policy, `{"enabled": true, "max_failure_ratio": 0.5}`, 400, 10001, "/max_failure_ratio", []string{"0.5"}},
		"policy requests":        {put, policy, `{"enabled": true, "min_requests": 0}`, 400, 10001, "/min_requests", []string{"min_requests"}},
		"policy fraction":        {put, policy, `{"enabled": true, "min_requests": 1.5}`, 400, 10001, "/min_requests", []string{"1.5", "a whole number"}},
		"policy look-back":       {put, policy, `{"enabled": true, "look_back_seconds": 100000}`, 400, 10001, "/look_back_seconds", []string{"100000"}},
		"policy action":          {put, policy, `{"enabled": true, "action": "panic"}`, 400, 10001, "/action", []string{"panic"}},
		"policy confidence":      {put, policy, `{"enabled": true, "confidence": 99.9}`, 400, 10001, "/confidence", []string{"confidence 99.9"}},
		"policy unknown metric":  {put, policy, `{"enabled": true, "max_p95_wall_ms": 300}`, 400, 10001, "/max_p95_wall_ms", []string{"max_p95_wall_ms is unknown", "max_p99_wall_ms"}},
		"policy NaN":             {put, policy, `{"enabled": true, "max_failure_rate": NaN}`, 400, 10001, "", []string{"not valid JSON"}},
		"policy number too big":  {put, policy, `{"enabled": true, "max_p99_wall_ms": 1e999}`, 400, 10001, "/max_p99_wall_ms", []string{"1e999", "a number"}},
		"policy notify":          {put, policy, `{"enabled": true, "notify": ["x"]}`, 400, 10001, "/notify/0", []string{"notify[0]", "an object"}},
		"policy notify type":     {put, policy, `{"enabled": true, "notify": [{"type": "pager"}]}`, 400, 10001, "/notify/0/type", []string{"pager", "alertmanager"}},
		"policy notify address":  {put, policy, `{"enabled": true, "notify": [{"type": "slack", "url": "http://10.0.0.1/x"}]}`, 400, 10001, "/notify/0/url", []string{"notify[0].url", "10.0.0.1 is private"}},
		"policy masked":          {put, policy, `{"enabled": true, "notify": [{"type": "webhook", "url": "https://ok.example.com/", "secret": "***"}]}`, 400, 10001, "/notify/0/secret", []string{"give it whole"}},
		"policy window":          {put, policy, `{"enabled": true, "promote": [{"from": "9am", "until": "17:00"}]}`, 400, 10001, "/promote/0/from", []string{"9am", "00:00 to 23:59"}},
		"policy time zone":       {put, policy, `{"enabled": true, "promote": [{"from": "09:00", "until": "17:00", "time_zone": "Europe/Atlantis"}]}`, 400, 10001, "/promote/0/time_zone", []string{"Europe/Atlantis"}},
		"policy freeze":          {put, policy, `{"enabled": true, "freeze": [{"from": "soon", "until": "2027-01-02T00:00:00Z"}]}`, 400, 10001, "/freeze/0/from", []string{"freeze[0].from", "soon"}},
		"policy gate":            {put, policy, `{"enabled": true, "ramp": [{"percentage": 5, "gate": "proven"}]}`, 400, 10001, "/ramp/0/gate", []string{"max_failure_ratio is 1"}},
		"policy percentage":      {put, policy, `{"enabled": true, "ramp": [{"percentage": 101}]}`, 400, 10001, "/ramp/0/percentage", []string{"101"}},
		"default policy":         {put, "/workers/rollback-policy", `{"enabled": true, "grace_seconds": -1}`, 400, 10001, "/grace_seconds", []string{"-1"}},
		"decisions page":         {get, "/workers/scripts/shop/rollback-decisions?per_page=101", ``, 400, 10001, "", []string{"per_page", "101"}},
		"ramp falls": {put, policy, `{"enabled": true, "ramp": [{"percentage": 10, "bake_seconds": 1}, {"percentage": 5, "bake_seconds": 1}]}`,
			400, 10001, "/ramp/1/percentage", []string{"ramp[1].percentage", "5%"}},
		"ramp bake":   {put, policy, `{"enabled": true, "ramp": [{"percentage": 10, "bake_seconds": -1}]}`, 400, 10001, "/ramp/0/bake_seconds", []string{"-1"}},
		"ramp action": {post, policy + "/ramp", `{"action": "jump"}`, 404, 10007, "", []string{"shop"}},

		"no sampling rate":        {put, sampling, `{}`, 400, 10001, "/head_sampling_rate", []string{"head_sampling_rate is missing"}},
		"sampling rate":           {put, sampling, `{"head_sampling_rate": 1.5}`, 400, 10001, "/head_sampling_rate", []string{"1.5", "at most 1"}},
		"sampling rate in text":   {put, sampling, `{"head_sampling_rate": "1%"}`, 400, 10001, "/head_sampling_rate", []string{"number"}},
		"sampling member":         {put, sampling, `{"head_sampling_rate": 1, "keep": "all"}`, 400, 10001, "/keep", []string{"unknown"}},
		"sampling of nobody":      {put, "/workers/scripts/none/sampling", `{"head_sampling_rate": 1}`, 404, 10007, "", []string{"none"}},
		"no affinity":             {put, affinity, `{}`, 400, 10001, "/rules", []string{"rules has 0 entries"}},
		"affinity of nobody":      {put, "/workers/scripts/none/affinity", `{"rules": [{"source": "client_ip"}]}`, 404, 10007, "", []string{"none"}},
		"affinity member":         {put, affinity, `{"rules": [{"source": "client_ip", "salt": "x"}]}`, 400, 10001, "/rules/0/salt", []string{"unknown"}},
		"affinity source":         {put, affinity, `{"rules": [{"source": "client_ip"}, {"source": "moon"}]}`, 400, 10001, "/rules/1/source", []string{"moon", "client_ip"}},
		"affinity name":           {put, affinity, `{"rules": [{"source": "cookie", "name": "a b"}]}`, 400, 10001, "/rules/0/name", []string{"a b", "letters"}},
		"affinity header refused": {put, affinity, `{"rules": [{"source": "header", "name": "HOST"}]}`, 400, 10001, "/rules/0/name", []string{"HOST", "cannot give a key"}},
		"affinity segment":        {put, affinity, `{"rules": [{"source": "path", "segment": 1.5}]}`, 400, 10001, "/rules/0/segment", []string{"1.5", "a whole number"}},
		"affinity prefix":         {put, affinity, `{"rules": [{"source": "path", "prefix": "/rooms"}]}`, 400, 10001, "/rules/0/prefix", []string{"/rooms", "end with a slash"}},
		"affinity cookie member":  {put, affinity, `{"rules": [{"source": "cookie", "name": "a", "set": {"expires": 1}}]}`, 400, 10001, "/rules/0/set/expires", []string{"unknown", "max_age"}},
		"affinity cookie age":     {put, affinity, `{"rules": [{"source": "cookie", "name": "a", "set": {"max_age": 34560001}}]}`, 400, 10001, "/rules/0/set/max_age", []string{"400 days"}},
		"affinity cookie strict":  {put, affinity, `{"rules": [{"source": "cookie", "name": "a", "set": {"same_site": "strict"}}]}`, 400, 10001, "/rules/0/set/same_site", []string{"another site"}},
		"affinity cookie secure":  {put, affinity, `{"rules": [{"source": "cookie", "name": "__Host-a", "set": {}}]}`, 400, 10001, "/rules/0/set/secure", []string{"always", "__Host-a"}},
		"affinity cookie domain":  {put, affinity, `{"rules": [{"source": "cookie", "name": "a", "set": {"domain": ".example.com"}}]}`, 400, 10001, "/rules/0/set/domain", []string{".example.com"}},
		"affinity cookie path":    {put, affinity, `{"rules": [{"source": "cookie", "name": "a", "set": {"path": "app"}}]}`, 400, 10001, "/rules/0/set/path", []string{"slash"}},
		"affinity cookie order":   {put, affinity, `{"rules": [{"source": "cookie", "name": "a", "set": {}}, {"source": "client_ip"}]}`, 400, 10001, "/rules/0/set", []string{"last"}},
		"affinity cookie of none": {put, affinity, `{"rules": [{"source": "client_ip", "set": {}}]}`, 400, 10001, "/rules/0/set", []string{"client_ip"}},
		"affinity forward":        {put, affinity, `{"rules": [{"source": "client_ip", "forward": "yes"}]}`, 400, 10001, "/rules/0/forward", []string{"true or false"}},
		"affinity twice":          {put, affinity, `{"rules": [{"source": "header", "name": "X-A"}, {"source": "header", "name": "x-a"}]}`, 400, 10001, "/rules/1", []string{"rules[0]"}},

		"token scope":    {post, tokens, `{"name": "x", "scopes": ["root"]}`, 400, 10001, "/scopes", []string{"root"}},
		"token scopes":   {post, tokens, `{"name": "x", "scopes": []}`, 400, 10001, "/scopes", []string{"scopes"}},
		"token name":     {post, tokens, `{"name": "", "scopes": ["admin"]}`, 400, 10001, "/name", []string{"name"}},
		"token past":     {post, tokens, `{"name": "x", "scopes": ["admin"], "expires_on": "2020-01-01T00:00:00Z"}`, 400, 10001, "/expires_on", []string{"2020-01-01"}},
		"token time":     {post, tokens, `{"name": "x", "scopes": ["admin"], "expires_on": "soon"}`, 400, 10001, "/expires_on", []string{"expires_on", "soon"}},
		"no settings":    {patch, "", `{}`, 400, 10001, "/settings", []string{"neither name nor settings"}},
		"empty name":     {patch, "", `{"name": ""}`, 400, 10001, "/name", []string{"1 to 100"}},
		"few versions":   {patch, "", `{"settings": {"max_versions": 1}}`, 400, 10001, "/settings/max_versions", []string{"settings.max_versions is 1"}},
		"many versions":  {patch, "", `{"settings": {"max_versions": 101}}`, 400, 10001, "/settings/max_versions", []string{"101"}},
		"negative jobs":  {patch, "", `{"settings": {"max_versions": 3, "max_jobs": -1}}`, 400, 10001, "/settings/max_jobs", []string{"-1"}},
		"many jobs":      {patch, "", `{"settings": {"max_jobs": 1001}}`, 400, 10001, "/settings/max_jobs", []string{"1001"}},
		"account member": {patch, "", `{"nickname": "x"}`, 400, 10001, "/nickname", []string{"nickname is unknown"}},
		"NUL in a path":  {post, "/workers/scripts/a%00b/versions", origin("http://a"), 404, 7003, "", []string{"script"}},
		"latin-1 in one": {post, "/workers/scripts/%e9/versions", origin("http://a"), 404, 7003, "", []string{"script"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := p.call(t, c.method, c.path, c.body)
			a.want(t, c.status, c.code, c.parts...)
			if c.pointer != "" && a.Errors[0].Source.Pointer != c.pointer {
				t.Errorf("points at %q, want %q", a.Errors[0].Source.Pointer, c.pointer)
			}
		})
	}
	if after := p.picture(t); after != before {
		t.Errorf("refused requests left something:\n%s\nbefore:\n%s", after, before)
	}
}

func TestUploadsOfAnotherTypeAreRefusedByName(t *testing.T) {
	p := newPlatform(t)
	for contentType, part := range map[string]string{
		"multipart/form-data; boundary=x": "broken or ends too early",
		"multipart/form-data":             "boundary",
		"text/javascript":                 "text/javascript",
		"":                                "Content-Type",
	} {
		header := http.Header{"Authorization": {"Bearer " + p.token}, "Content-Type": {contentType}}
		const script = "/client/v4/accounts/" + account + "/workers/scripts/shop"
		p.do(t, http.MethodPut, script, header, `{"metadata": {"origin": {"url": "http://a"}}}`).want(t, http.StatusBadRequest, 10001, part)
		if strings.HasPrefix(contentType, "multipart/") {
			continue // only for a script that is there
		}
		p.do(t, http.MethodPost, script+"/versions", header, `{"metadata": {"origin": {"url": "http://a"}}}`).want(t, http.StatusBadRequest, 10001, part)
	}
	if list, err := p.Scripts(t.Context(), account); err != nil || len(list) != 0 {
		t.Errorf("scripts %+v, error %v", list, err)
	}
}

func TestBadQueriesAreRefused(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	for query, part := range map[string]string{
		"/workers/scripts/shop/metrics?since=yesterday":                                       "yesterday",
		"/workers/scripts/shop/metrics?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z": "not before",
		"/workers/scripts/shop/metrics?since=2025-01-01T00:00:00Z&until=2026-01-01T00:00:00Z": "31 days",
		"/workers/scripts/shop/metrics?step=1":                                                "step",
		"/workers/scripts/shop/metrics?step=1500ms":                                           "1500ms",
		"/workers/scripts/shop/metrics?step=1s":                                               "1000 points",
		"/workers/scripts/shop/versions?page=0":                                               "page",
		"/workers/scripts/shop/versions?per_page=1000":                                        "per_page",
		"/routing/snapshot?after=-1":                                                          "after",
		"/workers/scripts/shop/versions?page=9999999999999999999":                             "page",
	} {
		p.call(t, http.MethodGet, query, "").want(t, http.StatusBadRequest, 10001, part)
	}
	p.call(t, http.MethodGet, "/logpush/datasets/http_requests/fields", "").want(t, http.StatusNotFound, 1002, "http_requests")
	p.call(t, http.MethodGet, "/workers/scripts/none/metrics", "").want(t, http.StatusNotFound, 10007, "none")
}

// TestDestinationRefusalIsSaidOnce: the API put its own words before a sentence
// that begins with them.
func TestDestinationRefusalIsSaidOnce(t *testing.T) {
	p := newPlatform(t)
	const want = "error validating destination: error writing object: the destination answered 403"
	a := p.call(t, http.MethodPost, "/logpush/jobs", `{"dataset": "workers_trace_events", "destination_conf": "https://refused.example.com/"}`)
	if len(a.Errors) != 1 || a.Errors[0].Message != want {
		t.Errorf("answered %s", a.text)
	}
	if check, err := p.ValidateDestination(t.Context(), account, "https://refused.example.com/"); err != nil || check.Message != want {
		t.Errorf("validated as %+v, error %v", check, err)
	}
}

// TestCodesBelongToEndpoints: a script named logpush got Logpush's codes, because
// they were chosen by what the path contains.
func TestCodesBelongToEndpoints(t *testing.T) {
	p := newPlatform(t)
	p.call(t, http.MethodPost, "/workers/scripts/logpush/versions", `{}`).want(t, http.StatusBadRequest, 10001)
	p.call(t, http.MethodGet, "/workers/scripts/logpush/routes", "").want(t, http.StatusNotFound, 10007)
	p.call(t, http.MethodGet, "/logpush/jobs/1", "").want(t, http.StatusNotFound, 1002)
}

// TestConflictsTellClientsNotToRetry: cloudflare-go repeats a POST that was
// answered 409 unless the answer says otherwise.
func TestConflictsTellClientsNotToRetry(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	p.upload(t, "other", "v1")
	if err := p.SetRoutes(t.Context(), account, "shop", []string{"shop.example.com/*"}); err != nil {
		t.Fatal(err)
	}
	a := p.call(t, http.MethodPut, "/workers/scripts/other/routes", `[{"pattern": "shop.example.com/*"}]`)
	a.want(t, http.StatusConflict, 10020, "shop.example.com/*")
	if a.header.Get("x-should-retry") != "false" {
		t.Errorf("headers %v", a.header)
	}
}

func TestAuthorsAndSourcesAreKept(t *testing.T) {
	p := newPlatform(t)
	_, secret, err := p.CreateToken(t.Context(), control.Token{AccountID: account, Name: "ci", Email: "ci@example.com", Scopes: []control.Scope{control.ScriptsEdit}})
	if err != nil {
		t.Fatal(err)
	}
	header := bearer(secret)
	header.Set("User-Agent", "wrangler/4.86.0")
	a := p.do(t, http.MethodPost, "/client/v4/accounts/"+account+"/workers/scripts/shop/versions", header, `{"metadata": {"origin": {"url": "http://a"}}}`)
	for _, member := range []string{`"source":"wrangler"`, `"author_email":"ci@example.com"`} {
		if a.status != http.StatusOK || !strings.Contains(string(a.Result), member) {
			t.Errorf("answered %d %s, want %s", a.status, a.text, member)
		}
	}
	if !slices.Contains(a.header.Values("X-Content-Type-Options"), "nosniff") || a.header.Get("X-Request-Id") == "" {
		t.Errorf("headers %v", a.header)
	}
}
