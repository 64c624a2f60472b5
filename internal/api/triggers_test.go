package api_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"tidegate/internal/deploy"
)

// result calls below the first account and decodes the result of a success.
func result[T any](t *testing.T, p *platform, method, path, body string) T {
	t.Helper()
	return decoded[T](t, p.call(t, method, path, body))
}

func decoded[T any](t *testing.T, a answer) T {
	t.Helper()
	var out T
	if err := json.Unmarshal(a.Result, &out); err != nil || a.status != http.StatusOK {
		t.Fatalf("answered %d %s, error %v", a.status, a.text, err)
	}
	return out
}

const (
	get, post, put, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	shop                = "/workers/scripts/shop"
)

// inSnapshot returns what gateways know of a script.
func (p *platform) inSnapshot(t *testing.T, script string) deploy.SnapshotScript {
	t.Helper()
	snap, err := p.SnapshotAll(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(snap.Scripts, func(s deploy.SnapshotScript) bool { return s.AccountID == account && s.Name == script })
	if i < 0 {
		t.Fatalf("%s is not in the snapshot", script)
	}
	return snap.Scripts[i]
}

func services(t *testing.T, p *platform) {
	type environment struct {
		Environment string
		Script      struct {
			ID, Tag  string
			Tags     []string
			Handlers []string
			From     string `json:"last_deployed_from"`
		}
	}
	const service = "/workers/services/shop"
	s := result[struct {
		ID      string
		Default environment `json:"default_environment"`
	}](t, p, get, service, "")
	if s.ID != "shop" || s.Default.Environment != "production" || s.Default.Script.ID != "shop" || len(s.Default.Script.Tag) != 32 ||
		!slices.Equal(s.Default.Script.Tags, []string{"team-a"}) || !slices.Equal(s.Default.Script.Handlers, []string{"fetch"}) || s.Default.Script.From != "wrangler" {
		t.Errorf("service %+v", s)
	}
	if e := result[environment](t, p, get, service+"/environments/production", ""); e.Script.Tag != s.Default.Script.Tag {
		t.Errorf("environment %+v", e)
	}
	if a := p.call(t, get, service+"/environments/production/bindings", ""); string(a.Result) != "[]" {
		t.Errorf("bindings of an origin: %s", a.text)
	}
	if a := p.call(t, get, service+"/environments/production/routes?show_zonename=true", ""); !strings.Contains(a.text, `"zone_name":"example.com"`) {
		t.Errorf("routes: %s", a.text)
	}
	if a := p.call(t, get, service+"/environments/production/subdomain", ""); !strings.Contains(a.text, `"enabled":true`) {
		t.Errorf("subdomain: %s", a.text)
	}
	p.call(t, get, service+"/environments/staging", "").want(t, http.StatusNotFound, 10092, "staging")
	p.call(t, get, "/workers/services/none", "").want(t, http.StatusNotFound, 10090, "none")
	p.call(t, del, "/workers/services/none?force=false", "").want(t, http.StatusNotFound, 10090, "none")
	p.call(t, del, service+"?force=maybe", "").want(t, http.StatusBadRequest, 10001, "force", "maybe")

	if a := p.call(t, get, shop+"/references", ""); string(a.Result) != `{"services":{"incoming":[],"outgoing":[]},"durable_objects":[],"dispatch_outbounds":[]}` {
		t.Errorf("references: %s", a.text)
	}
	p.call(t, get, "/workers/scripts/none/references", "").want(t, http.StatusNotFound, 10007, "none")
	p.call(t, get, "/workers/tails/by-consumer/none", "").want(t, http.StatusNotFound, 10007, "none")
	for path, info := range map[string]string{
		"/workers/tails/by-consumer/shop":                                         "",
		"/workers/durable_objects/namespaces?per_page=1000&page=1":                `"result_info":{"page":1,"per_page":1000,"count":0,"total_count":0,"total_pages":0}`,
		"/containers/applications":                                                "",
		"/storage/kv/namespaces?per_page=100&order=title&direction=asc&page=1":    `"result_info":{"page":1,"per_page":100,"count":0,"total_count":0,"total_pages":0}`,
		"/workers/durable_objects/namespaces":                                     `"total_count":0`,
		"/workers/services/shop/environments/production/bindings?anything=at-all": "",
	} {
		if a := p.call(t, get, path, ""); string(a.Result) != "[]" || !strings.Contains(a.text, info) {
			t.Errorf("GET %s answered %d %s", path, a.status, a.text)
		}
	}
	p.upload(t, "gone", "v1")
	if a := p.call(t, del, "/workers/services/gone?force=false", ""); a.status != http.StatusOK {
		t.Errorf("answered %d %s", a.status, a.text)
	}
}

func hosts(t *testing.T, p *platform) {
	type switches struct {
		Enabled  bool
		Previews bool `json:"previews_enabled"`
	}
	wantHosts := func(got switches, enabled, previews bool) {
		t.Helper()
		sc := p.inSnapshot(t, "shop")
		if got != (switches{enabled, previews}) || sc.HostDisabled == enabled || sc.PreviewsDisabled == previews {
			t.Errorf("answered %+v, in the snapshot host_disabled %v, previews_disabled %v; want %v, %v", got, sc.HostDisabled, sc.PreviewsDisabled, enabled, previews)
		}
	}
	const path = shop + "/subdomain"
	wantHosts(result[switches](t, p, get, path, ""), true, true)
	wantHosts(result[switches](t, p, post, path, `{"enabled":false}`), false, true)
	wantHosts(result[switches](t, p, post, path, `{"enabled":true,"previews_enabled":false}`), true, false)
	wantHosts(result[switches](t, p, del, path, ""), false, false)
	dated := func(date, body string) answer {
		header := bearer(p.token)
		header["Cloudflare-Workers-Script-Api-Date"] = []string{date}
		return p.do(t, post, "/client/v4/accounts/"+account+path, header, body)
	}
	wantHosts(decoded[switches](t, dated("2025-08-01", `{"enabled":true}`)), true, true)
	wantHosts(decoded[switches](t, dated("2026-01-01", `{"enabled":false}`)), false, false)
	wantHosts(decoded[switches](t, dated("2025-07-31", `{"enabled":true}`)), true, false)
	wantHosts(decoded[switches](t, dated("2025-08-01", `{"enabled":true,"previews_enabled":true}`)), true, true)
	dated("soon", `{"enabled":true}`).want(t, http.StatusBadRequest, 10001, "Cloudflare-Workers-Script-Api-Date", "soon")
	p.call(t, post, path, `{}`).want(t, http.StatusBadRequest, 10001, "enabled is missing")
	p.call(t, post, "/workers/scripts/none/subdomain", `{"enabled":true}`).want(t, http.StatusNotFound, 10007, "none")
	p.call(t, get, "/workers/scripts/none/subdomain", "").want(t, http.StatusNotFound, 10007, "none")

	if a := p.call(t, get, "/workers/subdomain", ""); string(a.Result) != `{"subdomain":"dev"}` {
		t.Errorf("subdomain: %s", a.text)
	}
	if a := p.call(t, get, "/workers/subdomains/dev", ""); a.status != http.StatusOK {
		t.Errorf("the own subdomain: %s", a.text)
	}
	p.call(t, get, "/workers/subdomains/second", "").want(t, http.StatusConflict, 10031, "second") // of an account made before
	p.call(t, get, "/workers/subdomains/fresh", "").want(t, http.StatusNotFound, 10032, "fresh")
	p.call(t, get, "/workers/subdomains/Not-One-", "").want(t, http.StatusBadRequest, 10001, "Not-One-")
	p.call(t, put, "/workers/subdomain", `{"subdomain":"second"}`).want(t, http.StatusConflict, 10031, "second")
	p.call(t, put, "/workers/subdomain", `{"subdomain":"a.b"}`).want(t, http.StatusBadRequest, 10001, "a.b")
	for _, name := range []string{"fresh", "fresh", "dev"} {
		if a := p.call(t, put, "/workers/subdomain", `{"subdomain":"`+name+`"}`); a.status != http.StatusOK || p.inSnapshot(t, "shop").Subdomain != name {
			t.Errorf("answered %d %s, the snapshot has %s", a.status, a.text, p.inSnapshot(t, "shop").Subdomain)
		}
	}
}

func schedules(t *testing.T, p *platform) {
	type list struct {
		Schedules []struct {
			Cron    string
			Created string `json:"created_on"`
		}
	}
	const path = shop + "/schedules"
	if got := result[list](t, p, get, path, ""); got.Schedules == nil || len(got.Schedules) != 0 {
		t.Errorf("before: %+v", got)
	}
	first := result[list](t, p, put, path, `[{"cron":"*/30  * * * *"},{"cron":"0 17 * * sun"}]`)
	if len(first.Schedules) != 2 || !slices.Equal(p.inSnapshot(t, "shop").Crons, []string{"*/30 * * * *", "0 17 * * sun"}) {
		t.Errorf("schedules %+v, in the snapshot %q", first, p.inSnapshot(t, "shop").Crons)
	}
	second := result[list](t, p, put, path, `[{"cron":"0 17 * * sun"},{"cron":"5 5 5 5 *"}]`)
	if second.Schedules[0] != first.Schedules[slices.IndexFunc(first.Schedules, func(s struct {
		Cron    string
		Created string `json:"created_on"`
	}) bool {
		return s.Cron == "0 17 * * sun"
	})] {
		t.Errorf("one that stayed changed: %+v, before %+v", second, first)
	}
	if got := result[list](t, p, get, path, ""); !slices.Equal(got.Schedules, second.Schedules) {
		t.Errorf("read %+v, put %+v", got, second)
	}
	a := p.call(t, put, path, `[{"cron":"* * * * *"},{"cron":"61 * * * *"}]`)
	a.want(t, http.StatusBadRequest, 10001, "61", "minute")
	if a.Errors[0].Source.Pointer != "/1/cron" {
		t.Errorf("points at %q", a.Errors[0].Source.Pointer)
	}
	p.call(t, put, path, `[{"cron":"* * * * *"},{"cron":" * * * *  *"}]`).want(t, http.StatusBadRequest, 10001, "repeated")
	p.call(t, put, path, `null`).want(t, http.StatusBadRequest, 10001, "null")
	p.call(t, put, path, `[`+strings.Repeat(`{"cron":"* * * * *"},`, 100)+`{"cron":"* * * * *"}]`).want(t, http.StatusBadRequest, 10001, "101 schedules")
	p.call(t, put, "/workers/scripts/none/schedules", `[]`).want(t, http.StatusNotFound, 10007, "none")
	p.call(t, get, "/workers/scripts/none/schedules", ``).want(t, http.StatusNotFound, 10007, "none")
	if got := result[list](t, p, put, path, `[]`); len(got.Schedules) != 0 || len(p.inSnapshot(t, "shop").Crons) != 0 {
		t.Errorf("after: %+v", got)
	}
}

type route struct {
	ID, Pattern, Script string
	ZoneName            string `json:"zone_name"`
	ZoneID              string `json:"zone_id"`
}

func zones(t *testing.T, p *platform) {
	type zone struct{ ID, Name string }
	find := func(query string) []zone {
		t.Helper()
		return decoded[[]zone](t, p.do(t, get, "/client/v4/zones?"+query, bearer(p.token), ""))
	}
	own := "account.id=" + account
	list := find("name=example.com&" + own)
	if len(list) != 1 || list[0].Name != "example.com" || find("name=Example.com&" + own)[0].ID != list[0].ID {
		t.Fatalf("zones %+v", list)
	}
	for _, name := range []string{"shop.example.com", "co.uk", "com", "a..b", "*.example.com", "a%00b.com"} {
		if list := find("name=" + name + "&" + own); len(list) != 0 {
			t.Errorf("%s is no zone, but %+v", name, list)
		}
	}
	if list := find(own); len(list) != 2 || list[0].Name != "example.com" || list[1].Name != "example.org" { // of the routes of shop
		t.Errorf("zones in use: %+v", list)
	}
	if list := find("name=example.com"); len(list) != 2 || list[0].ID == list[1].ID { // the operator's token opens two accounts
		t.Errorf("zones of every account: %+v", list)
	}
	p.do(t, get, "/client/v4/zones?account.id="+strings.Repeat("f", 32), bearer(p.token), "").want(t, http.StatusForbidden, 9109)

	routes := "/client/v4/zones/" + list[0].ID + "/workers/routes"
	call := func(method, path, body string) answer {
		t.Helper()
		return p.do(t, method, path, bearer(p.token), body)
	}
	if got := decoded[[]route](t, call(get, routes, "")); len(got) != 1 || got[0].Pattern != "shop.example.com/*" || got[0].Script != "shop" || got[0].ZoneID != list[0].ID {
		t.Fatalf("routes %+v", got)
	}
	if got := decoded[[]route](t, call(get, "/client/v4/zones/"+strings.Repeat("0", 32)+"/workers/routes", "")); len(got) != 0 {
		t.Errorf("an empty zone has %+v", got)
	}
	made := decoded[route](t, call(post, routes, `{"pattern":"New.Example.com/*","script":"shop"}`))
	if got := decoded[route](t, call(get, routes+"/"+made.ID, "")); got != made || got.Pattern != "new.example.com/*" {
		t.Fatalf("made %+v, found %+v", made, got)
	}
	call(post, routes, `{"pattern":"new.example.com/*","script":"other"}`).want(t, http.StatusConflict, 10020, "new.example.com/*")
	call(post, routes, `{"pattern":"new.example.org/*","script":"shop"}`).want(t, http.StatusBadRequest, 10001, "new.example.org/*", "zone")
	call(post, routes, `{"pattern":"a.example.com/*"}`).want(t, http.StatusBadRequest, 10001, "script is missing")
	call(post, routes, `{"pattern":"a.example.com/*","script":"none"}`).want(t, http.StatusNotFound, 10007, "none")
	moved := decoded[route](t, call(put, routes+"/"+made.ID, `{"pattern":"new.example.com/api/*","script":"other"}`))
	if !slices.Contains(p.inSnapshot(t, "other").Routes, "new.example.com/api/*") || slices.Contains(p.inSnapshot(t, "shop").Routes, "new.example.com/*") {
		t.Errorf("after the move shop has %v, other %v", p.inSnapshot(t, "shop").Routes, p.inSnapshot(t, "other").Routes)
	}
	call(put, routes+"/"+made.ID, `{"pattern":"new.example.com/*","script":"shop"}`).want(t, http.StatusNotFound, 10007, made.ID)
	if a := call(del, routes+"/"+moved.ID, ""); a.status != http.StatusOK {
		t.Errorf("answered %d %s", a.status, a.text)
	}
	call(del, routes+"/"+moved.ID, "").want(t, http.StatusNotFound, 10007, moved.ID)

	// What wrangler puts with a script.
	const path = shop + "/routes"
	put1 := result[[]route](t, p, put, path, `[{"pattern":"shop.example.com/*","zone_name":"example.com"},{"pattern":"*.shop.example.org/api/*","zone_id":"of-another-cloud"}]`)
	if len(put1) != 2 || put1[0].ZoneName != "example.org" || put1[1].ZoneName != "example.com" {
		t.Errorf("routes %+v", put1)
	}
	p.call(t, put, path, `[{"pattern":"shop.example.com/*","zone_name":"ample.com"}]`).want(t, http.StatusBadRequest, 10001, "ample.com", "shop.example.com")
	p.call(t, put, path, `[{"pattern":"shop.example.com","custom_domain":true}]`).want(t, http.StatusBadRequest, 10001, "custom_domain", "domains/records")
}

func domains(t *testing.T, p *platform) {
	type domain struct {
		ID, Hostname, Service string
		ZoneName              string `json:"zone_name"`
		Modified              bool
	}
	type changes struct{ Added, Removed, Updated, Conflicting []domain }
	const records, changeset = shop + "/domains/records", shop + "/domains/changeset"
	origins := func(names ...string) string {
		return `[{"hostname":"` + strings.Join(names, `"},{"hostname":"`) + `"}]`
	}
	body := func(names ...string) string { return `{"override_scope":true,"origins":` + origins(names...) + `}` }

	first := result[[]domain](t, p, put, records, body("Www.Example.net", "api.example.net"))
	if len(first) != 2 || first[1].Hostname != "www.example.net" || first[0].Service != "shop" || first[0].ZoneName != "example.net" {
		t.Fatalf("domains %+v", first)
	}
	if got := p.inSnapshot(t, "shop").Routes; !slices.Contains(got, "www.example.net/*") || !slices.Contains(got, "shop.example.com/*") {
		t.Errorf("routes in the snapshot: %v", got)
	}
	if list, err := p.Routes(t.Context(), account, "shop"); err != nil || slices.Contains(list, "www.example.net/*") {
		t.Errorf("a custom domain is listed as a route: %v, error %v", list, err)
	}
	got := result[changes](t, p, post, "/workers/scripts/other/domains/changeset?replace_state=true", origins("www.example.net", "new.example.net"))
	if len(got.Added) != 1 || got.Added[0].Hostname != "new.example.net" || len(got.Updated) != 1 || !got.Updated[0].Modified || len(got.Removed) != 0 {
		t.Errorf("changes %+v", got)
	}
	got = result[changes](t, p, post, changeset+"?replace_state=true", origins("www.example.net"))
	if len(got.Removed) != 1 || got.Removed[0].ID != first[0].ID || len(got.Updated) != 1 || got.Updated[0].Modified {
		t.Errorf("changes %+v", got)
	}
	const others = "/workers/scripts/other/domains/records"
	p.call(t, put, others, body("www.example.net")).want(t, http.StatusConflict, 10020, "www.example.net", "shop", "override_existing_origin")
	if list := result[[]domain](t, p, put, others, `{"override_existing_origin":true,"origins":[{"hostname":"www.example.net","enabled":true,"previews_enabled":false}]}`); len(list) != 1 || list[0].ID != first[1].ID {
		t.Errorf("moved %+v", list)
	}
	if list := result[[]domain](t, p, get, "/workers/domains/records?page=0&per_page=5&service=shop&environment=production", ""); len(list) != 1 || list[0].Hostname != "api.example.net" {
		t.Errorf("domains of shop: %+v", list)
	}
	if list := result[[]domain](t, p, get, "/workers/domains?zone_name=example.net", ""); len(list) != 2 {
		t.Errorf("domains: %+v", list)
	}
	attached := result[domain](t, p, put, "/workers/domains", `{"hostname":"www.example.net","service":"shop","zone_id":"x","environment":"production"}`)
	for _, path := range []string{"/workers/domains/", "/workers/domains/records/"} {
		if got := result[domain](t, p, get, path+attached.ID, ""); got != attached || got.Service != "shop" {
			t.Errorf("attached %+v, read %+v", attached, got)
		}
	}

	// A host goes to one script, whichever way it was given.
	p.call(t, put, "/workers/scripts/other/routes", `[{"pattern":"www.example.net/*"}]`).want(t, http.StatusConflict, 10020, "www.example.net/*", "shop")
	p.call(t, put, others, body("shop.example.com")).want(t, http.StatusConflict, 10020, "shop.example.com/*", "shop")
	if a := p.call(t, put, "/workers/scripts/other/routes", `[{"pattern":"www.example.net/admin/*"}]`); a.status != http.StatusOK {
		t.Errorf("a part of a custom domain: %s", a.text)
	}

	for _, id := range []string{attached.ID} {
		if a := p.call(t, del, "/workers/domains/"+id, ""); a.status != http.StatusOK || slices.Contains(p.inSnapshot(t, "shop").Routes, "www.example.net/*") {
			t.Errorf("answered %d %s", a.status, a.text)
		}
		p.call(t, del, "/workers/domains/"+id, "").want(t, http.StatusNotFound, 10007, id)
		p.call(t, get, "/workers/domains/"+id, "").want(t, http.StatusNotFound, 10007, id)
	}
	for text, parts := range map[string][]string{
		`{}`: {"origins is missing"},
		`{"origins":[{"hostname":"*.example.net"}]}`:                              {"*.example.net"},
		`{"origins":[{"hostname":"a.example.net/x"}]}`:                            {"a.example.net/x"},
		`{"origins":[{"hostname":"a.example.net"},{"hostname":"A.example.net"}]}`: {"repeated"},
		`{"origins":[{"hostname":"a.example.net","zone_name":"example.com"}]}`:    {"zone_name", "example.com"},
		`{"origins":[{"hostname":"a.example.net","enabled":false}]}`:              {"enabled is false", "a.example.net"},
		`{"origins":[{"hostname":"a.example.net","previews_enabled":true}]}`:      {"previews_enabled is true", "not supported"},
	} {
		p.call(t, put, records, text).want(t, http.StatusBadRequest, 10001, parts...)
	}
	for _, text := range []string{`{"hostname":"a.example.net"}`, `{"hostname":"a b","service":"shop"}`, `{"hostname":"a.example.net","service":"shop","zone_name":"b.net"}`} {
		if a := p.call(t, put, "/workers/domains", text); a.status != http.StatusBadRequest {
			t.Errorf("%s answered %d %s", text, a.status, a.text)
		}
	}
	p.call(t, put, "/workers/domains", `{"hostname":"a.example.net","service":"shop","environment":"staging"}`).want(t, http.StatusBadRequest, 10092, "staging")
	p.call(t, put, "/workers/domains", `{"hostname":"a.example.net","service":"none"}`).want(t, http.StatusNotFound, 10007, "none")
}

func tails(t *testing.T, p *platform) {
	tail := p.newTail(t, "shop", `{"filters":[]}`)
	if !p.inSnapshot(t, "shop").Tailed {
		t.Error("the snapshot does not say that the script is watched")
	}
	if list := result[[]tailAnswer](t, p, get, shop+"/tails", ""); len(list) != 1 || list[0] != tail {
		t.Errorf("tails %+v", list)
	}
	if a := p.call(t, del, shop+"/tails/"+tail.ID, ""); a.status != http.StatusOK || p.inSnapshot(t, "shop").Tailed {
		t.Errorf("answered %d %s", a.status, a.text)
	}
}

// The bindings of an environment had a masking of secrets of their
// own, and an empty text was left out, so that it looked changed.
func TestBindingsOfAnEnvironment(t *testing.T) {
	p := newPlatform(t)
	p.deployWorker(t, "shop", `{"main_module": "index.js", "bindings": [
		{"name": "EMPTY", "type": "plain_text", "text": ""}, {"name": "KEY", "type": "secret_text", "text": "hunter2"}
	]}`)
	a := p.call(t, http.MethodGet, "/workers/services/shop/environments/production/bindings", "")
	if want := `[{"name":"EMPTY","type":"plain_text","text":""},{"name":"KEY","type":"secret_text"}]`; string(a.Result) != want {
		t.Errorf("bindings %s, want %s", a.Result, want)
	}
}
