package api_test

import (
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

// references are as Cloudflare's typed clients read them.
type references struct {
	Workers []struct{ ID, Name string }
	Domains []struct {
		ID, Hostname string
		Certificate  string `json:"certificate_id"`
		ZoneID       string `json:"zone_id"`
		ZoneName     string `json:"zone_name"`
	}
	DurableObjects []any `json:"durable_objects"`
	Outbounds      []any `json:"dispatch_namespace_outbounds"`
	Queues         []any
}

type referencedWorker struct {
	ID, Name   string
	References references
}

// TestWorkerReferences names what breaks without a worker: others that bind to it,
// once each, and its custom domains.
func TestWorkerReferences(t *testing.T) {
	p := newPlatform(t)
	p.deployWorker(t, "stock", `{"main_module": "index.js"}`)
	p.deployWorker(t, "shop", `{"main_module": "index.js", "bindings": [{"name": "A", "type": "service", "service": "stock"}, {"name": "B", "type": "service", "service": "stock", "entrypoint": "Admin"}]}`)
	p.call(t, http.MethodPut, "/workers/domains", `{"hostname": "stock.example.com", "service": "stock"}`).ok(t, `"cert_id":"00000000-0000-0000-0000-000000000000"`)
	p.call(t, http.MethodPut, "/workers/domains", `{"hostname": "shop.example.com", "service": "shop"}`).ok(t)

	byName := make(map[string]referencedWorker)
	for _, w := range result[[]referencedWorker](t, p, http.MethodGet, "/workers/workers", "") {
		byName[w.Name] = w
	}
	stock := byName["stock"].References
	if len(stock.Workers) != 1 || stock.Workers[0].Name != "shop" || stock.Workers[0].ID != byName["shop"].ID {
		t.Errorf("stock is referenced by %+v; want shop, %s", stock.Workers, byName["shop"].ID)
	}
	if len(stock.Domains) != 1 || stock.Domains[0].Hostname != "stock.example.com" || stock.Domains[0].ZoneName != "example.com" || len(stock.Domains[0].ID) != 32 {
		t.Errorf("stock has the domains %+v", stock.Domains)
	}
	shop := byName["shop"].References
	if shop.Workers == nil || len(shop.Workers) != 0 || len(shop.Domains) != 1 || shop.DurableObjects == nil || shop.Outbounds == nil || shop.Queues == nil {
		t.Errorf("shop is referenced by %+v", shop)
	}
	for name, listed := range byName {
		if one := result[referencedWorker](t, p, http.MethodGet, "/workers/workers/"+name, ""); !reflect.DeepEqual(one, listed) {
			t.Errorf("%s alone is %+v, in the list %+v", name, one, listed)
		}
	}
	p.deployWorker(t, "shop", `{"main_module": "index.js"}`)
	if now := result[referencedWorker](t, p, http.MethodGet, "/workers/workers/stock", ""); len(now.References.Workers) != 0 {
		t.Errorf("a binding that is gone still counts: %+v", now.References.Workers)
	}
}

func TestScriptsByTag(t *testing.T) {
	p := newPlatform(t)
	p.deployWorker(t, "a", `{"main_module": "index.js", "tags": ["team:x", "old"]}`)
	p.deployWorker(t, "b", `{"main_module": "index.js", "tags": ["team:x"]}`)
	p.deployWorker(t, "c", `{"main_module": "index.js"}`)
	for query, want := range map[string]string{
		"":                                "a b c",
		"?tags=":                          "a b c",
		"?tags=team%3Ax%3Ayes":            "a b",
		"?tags=team%3Ax%3Ano":             "c",
		"?tags=team%3Ax%3Ayes%2Cold%3Ano": "b",
		"?tags=team%3Ax%3Ano%2Cold%3Ayes": "",
		"?tags=none%3Ayes":                "",
	} {
		var names []string
		for _, script := range result[[]struct{ ID string }](t, p, http.MethodGet, "/workers/scripts"+query, "") {
			names = append(names, script.ID)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%q lists %q, want %q", query, got, want)
		}
	}
	for _, bad := range []string{"team", ":yes", "team:maybe", "team:yes,"} {
		p.call(t, http.MethodGet, "/workers/scripts?tags="+bad, "").want(t, http.StatusBadRequest, 10001, "yes or no")
	}
}

// TestBodiesThatTheirSchemaAllows were refused for a member that was unknown.
func TestBodiesThatTheirSchemaAllows(t *testing.T) {
	p := newPlatform(t)
	create := func(body string) answer {
		return p.do(t, http.MethodPost, "/client/v4/accounts", bearer(p.token), body)
	}
	create(`{"name": "Second", "type": "standard", "unit": null}`).ok(t, `"type":"standard"`)
	create(`{"name": "Third", "type": "enterprise"}`).want(t, http.StatusBadRequest, 10001, "enterprise", "standard")
	create(`{"name": "Third", "unit": {"id": "x"}}`).want(t, http.StatusBadRequest, 10001, "unit", "tenant")

	for member, part := range map[string]string{
		`"policies": [{"effect": "allow"}]`:       "scopes",
		`"condition": {"request_ip": {"in": []}}`: "condition",
		`"not_before": "2026-01-01T00:00:00Z"`:    "not_before",
	} {
		p.call(t, http.MethodPost, "/tokens", `{"name": "ci", "scopes": ["admin"], `+member+`}`).want(t, http.StatusBadRequest, 10001, part, "not supported")
	}
	p.call(t, http.MethodPost, "/tokens", `{"name": "ci", "scopes": ["admin"], "policies": [], "condition": {}, "not_before": null}`).ok(t, `"status":"active"`)

	v := p.deployWorker(t, "shop", `{"main_module": "index.js", "invented": 1}`)
	bulk := func(tags string) answer {
		return p.call(t, http.MethodPatch, "/workers/scripts/shop/secrets-bulk", `{"secrets": {"A": {"type": "secret_text", "text": "1"}}, "version_tags": `+tags+`}`)
	}
	bulk(`{"commit": "abc"}`).ok(t, `"A"`)
	kept := p.newest(t, "shop").Worker.Kept
	if string(kept["version_tags"]) != `{"commit": "abc"}` && string(kept["version_tags"]) != `{"commit":"abc"}` || string(kept["invented"]) != "1" {
		t.Errorf("the version keeps %s", kept)
	}
	if before := v.Worker.Kept; len(before) != 1 {
		t.Errorf("the version before keeps %s", before)
	}
	bulk(`["abc"]`).want(t, http.StatusBadRequest, 10001, "version_tags", "object")
}

// TestZonesHaveWhatTheirClientsRequire: typed clients read more than a name.
func TestZonesHaveWhatTheirClientsRequire(t *testing.T) {
	p := newPlatform(t)
	a, err := p.store.Account(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	since := a.CreatedOn.UTC().Format("2006-01-02T15:04:05.000000Z")
	p.do(t, http.MethodGet, "/client/v4/zones?name=example.com", bearer(p.token), "").ok(t,
		`"created_on":"`+since+`"`, `"modified_on":"`+since+`"`, `"activated_on":"`+since+`"`, `"owner":{"id":"`+account+`"`,
		`"name_servers":[]`, `"original_name_servers":null`, `"original_dnshost":null`, `"original_registrar":null`, `"development_mode":0`, `"meta":{}`, `"plan":{}`)
}

// TestListsObeyTheirFilters: a client that asks for one account by its name takes
// the first of the answer.
func TestListsObeyTheirFilters(t *testing.T) {
	p := newPlatform(t)
	a, err := p.store.Account(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.store.CreateAccount(t.Context(), "Second"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"/accounts":                    2,
		"/accounts?name=Second":        1,
		"/accounts?name=Third":         0,
		"/memberships?name=Second":     1,
		"/memberships?status=accepted": 2,
		"/memberships?status=pending":  0,
		"/memberships?account.name=Second&name=" + url.QueryEscape(a.Name): 0,
		"/zones?name=example.com":                                   2,
		"/zones?name=example.com&account.name=Second&status=active": 1,
		"/zones?name=example.com&status=pending":                    0,
	} {
		list := decoded[[]any](t, p.do(t, http.MethodGet, "/client/v4"+path, bearer(p.token), ""))
		if len(list) != want {
			t.Errorf("%s has %d, want %d: %v", path, len(list), want, list)
		}
	}
	p.do(t, http.MethodGet, "/client/v4/zones?name=contains:example", bearer(p.token), "").want(t, http.StatusBadRequest, 10001, "contains:example", "whole name")
}
