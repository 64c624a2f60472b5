package api_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tidegate/internal/api"
	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// needed says which scope each operation needs: "" any token, "operator" the
// token that is bound to no account, which opens everything.
var needed = map[string]string{
	"GET /user":                                                               "",
	"GET /user/tokens/verify":                                                 "",
	"GET /user/tokens":                                                        "operator",
	"POST /user/tokens":                                                       "operator",
	"DELETE /user/tokens/{id}":                                                "operator",
	"PUT /user/tokens/{id}/value":                                             "operator",
	"GET /memberships":                                                        "",
	"GET /accounts":                                                           "",
	"POST /accounts":                                                          "operator",
	"GET /accounts/{account}":                                                 "",
	"PATCH /accounts/{account}":                                               "operator",
	"GET /accounts/{account}/deletions":                                       "logs:read",
	"POST /accounts/{account}/deletions":                                      "admin",
	"GET /accounts/{account}/deletions/{id}":                                  "logs:read",
	"GET /accounts/{account}/audit_logs":                                      "admin",
	"GET /accounts/{account}/tokens":                                          "admin",
	"POST /accounts/{account}/tokens":                                         "admin",
	"DELETE /accounts/{account}/tokens/{id}":                                  "admin",
	"GET /accounts/{account}/workers/scripts":                                 "scripts:read",
	"DELETE /accounts/{account}/workers/scripts/{script}":                     "scripts:edit",
	"GET /accounts/{account}/workers/scripts/{script}/routes":                 "scripts:read",
	"PUT /accounts/{account}/workers/scripts/{script}/routes":                 "scripts:edit",
	"GET /accounts/{account}/workers/scripts/{script}/versions":               "scripts:read",
	"POST /accounts/{account}/workers/scripts/{script}/versions":              "scripts:edit",
	"GET /accounts/{account}/workers/scripts/{script}/metrics":                "scripts:read",
	"GET /accounts/{account}/workers/scripts/{script}/metrics/compare":        "scripts:read",
	"GET /accounts/{account}/workers/scripts/{script}/events":                 "scripts:edit logs:read",
	"GET /accounts/{account}/workers/scripts/{script}/events/live":            "scripts:edit logs:read",
	"GET /accounts/{account}/workers/scripts/{script}/exceptions":             "scripts:edit logs:read",
	"GET /accounts/{account}/workers/events/{ray}":                            "scripts:edit logs:read",
	"GET /accounts/{account}/workers/calls":                                   "scripts:read",
	"GET /accounts/{account}/workers/metrics":                                 "scripts:read",
	"GET /accounts/{account}/workers/serving":                                 "scripts:read",
	"GET /accounts/{account}/logpush/jobs":                                    "logs:edit",
	"POST /accounts/{account}/logpush/jobs":                                   "logs:edit",
	"GET /accounts/{account}/logpush/jobs/{id}":                               "logs:edit",
	"PUT /accounts/{account}/logpush/jobs/{id}":                               "logs:edit",
	"DELETE /accounts/{account}/logpush/jobs/{id}":                            "logs:edit",
	"POST /accounts/{account}/logpush/jobs/{id}/test":                         "logs:edit",
	"POST /accounts/{account}/logpush/test":                                   "logs:edit",
	"GET /accounts/{account}/logpush/jobs/{id}/dead-letters":                  "logs:edit",
	"POST /accounts/{account}/logpush/jobs/{id}/dead-letters/resend":          "logs:edit",
	"GET /accounts/{account}/logpush/jobs/{id}/dead-letters/{letter}":         "logs:edit",
	"DELETE /accounts/{account}/logpush/jobs/{id}/dead-letters/{letter}":      "logs:edit",
	"GET /accounts/{account}/logpush/jobs/{id}/dead-letters/{letter}/content": "logs:edit",
	"POST /accounts/{account}/logpush/jobs/{id}/dead-letters/{letter}/resend": "logs:edit",
	"GET /accounts/{account}/logpush/jobs/{id}/health":                        "logs:read",
	"GET /accounts/{account}/logpush/health":                                  "logs:read",
	"GET /accounts/{account}/logpush/alerts":                                  "logs:edit",
	"PUT /accounts/{account}/logpush/alerts":                                  "logs:edit",
	"DELETE /accounts/{account}/logpush/alerts":                               "logs:edit",
	"POST /accounts/{account}/logpush/jobs/{id}/replay":                       "logs:edit",
	"GET /accounts/{account}/logpush/jobs/{id}/replays":                       "logs:edit",
	"POST /accounts/{account}/logpush/jobs/{id}/replays":                      "logs:edit",
	"GET /accounts/{account}/logpush/jobs/{id}/replays/{replay}":              "logs:edit",
	"DELETE /accounts/{account}/logpush/jobs/{id}/replays/{replay}":           "logs:edit",
	"POST /accounts/{account}/logpush/jobs/{id}/replays/{replay}/cancel":      "logs:edit",
	"GET /accounts/{account}/logpush/datasets/{dataset}/fields":               "logs:read",
	"GET /accounts/{account}/logpush/datasets/{dataset}/jobs":                 "logs:edit",
	"POST /accounts/{account}/logpush/validate/destination":                   "logs:edit",
	"GET /accounts/{account}/routing/snapshot":                                "scripts:read",
	"GET /routing/snapshot":                                                   "routers",
	"POST /graphql":                                                           "",
	"PUT /routing/routers/{router}":                                           "routers",
	"GET /system/health":                                                      "operator",
	"PUT /routing/reports":                                                    "routers",
	"POST /routing/cron-claims":                                               "routers",
	"POST /accounts/{account}/logpush/validate/destination/exists":            "logs:edit",
	"GET /accounts/{account}/logpush/datasets/{dataset}/fields/default":       "logs:read",
	"GET /accounts/{account}/logpush/datasets/{dataset}/filter-keys":          "logs:read",
	"GET /accounts/{account}/workers/scripts/{script}/versions/{id}":          "scripts:read",
	"GET /accounts/{account}/workers/scripts/{script}/deployments":            "scripts:read",
	"POST /accounts/{account}/workers/scripts/{script}/deployments":           "scripts:edit",
	"GET /accounts/{account}/workers/scripts/{script}/deployments/{id}":       "scripts:read",
	"GET /accounts/{account}/workers/scripts/{script}/script-settings":        "scripts:read",
	"PATCH /accounts/{account}/workers/scripts/{script}/script-settings":      "scripts:edit",
	"GET /accounts/{account}/workers/scripts/{script}/rollback-policy":        "scripts:read policy:edit",
	"PUT /accounts/{account}/workers/scripts/{script}/rollback-policy":        "policy:edit",

	"GET /accounts/{account}/workers/scripts/{script}/affinity":              "scripts:read",
	"PUT /accounts/{account}/workers/scripts/{script}/affinity":              "scripts:edit",
	"DELETE /accounts/{account}/workers/scripts/{script}/affinity":           "scripts:edit",
	"GET /accounts/{account}/workers/scripts/{script}/redaction":             "scripts:read",
	"PUT /accounts/{account}/workers/scripts/{script}/redaction":             "scripts:edit",
	"DELETE /accounts/{account}/workers/scripts/{script}/redaction":          "scripts:edit",
	"GET /accounts/{account}/redaction":                                      "scripts:read",
	"PUT /accounts/{account}/redaction":                                      "admin",
	"DELETE /accounts/{account}/redaction":                                   "admin",
	"GET /accounts/{account}/workers/scripts/{script}/sampling":              "scripts:read",
	"PUT /accounts/{account}/workers/scripts/{script}/sampling":              "scripts:edit",
	"DELETE /accounts/{account}/workers/scripts/{script}/deployments/{id}":   "scripts:edit",
	"DELETE /accounts/{account}/workers/scripts/{script}/rollback-policy":    "policy:edit",
	"GET /accounts/{account}/workers/scripts/{script}/rollback-policy/ramp":  "scripts:read policy:edit",
	"POST /accounts/{account}/workers/scripts/{script}/rollback-policy/ramp": "policy:edit",
	"GET /accounts/{account}/workers/scripts/{script}/rollback-decisions":    "scripts:read policy:edit",

	"GET /accounts/{account}/workers/scripts/{script}/rollback-decisions/{id}":      "scripts:read policy:edit",
	"GET /accounts/{account}/workers/scripts/{script}/rollback-policy/revisions":    "scripts:read policy:edit",
	"GET /accounts/{account}/workers/rollback-policy":                               "scripts:read policy:edit",
	"PUT /accounts/{account}/workers/rollback-policy":                               "policy:edit",
	"DELETE /accounts/{account}/workers/rollback-policy":                            "policy:edit",
	"GET /accounts/{account}/workers/rollback-policy/revisions":                     "scripts:read policy:edit",
	"GET /accounts/{account}/workers/scripts/{script}/rollback-notifications":       "scripts:read policy:edit",
	"POST /accounts/{account}/workers/scripts/{script}/rollback-policy/notify-test": "policy:edit",
	"POST /accounts/{account}/workers/scripts/{script}/rollback-policy/backtest":    "scripts:read policy:edit",
	"GET /accounts/{account}/workers/scripts/{script}/rollback-policy/evidence":     "scripts:read policy:edit",

	"GET /accounts/{account}/workers/services/{script}":                                      "scripts:read",
	"DELETE /accounts/{account}/workers/services/{script}":                                   "scripts:edit",
	"GET /accounts/{account}/workers/services/{script}/environments/{environment}":           "scripts:read",
	"GET /accounts/{account}/workers/services/{script}/environments/{environment}/bindings":  "scripts:read",
	"GET /accounts/{account}/workers/services/{script}/environments/{environment}/routes":    "scripts:read",
	"GET /accounts/{account}/workers/services/{script}/environments/{environment}/subdomain": "scripts:read",
	"GET /accounts/{account}/workers/scripts/{script}/references":                            "scripts:read",
	"GET /accounts/{account}/workers/tails/by-consumer/{script}":                             "scripts:read",
	"GET /accounts/{account}/workers/durable_objects/namespaces":                             "scripts:read",
	"GET /accounts/{account}/workers/durable_objects/namespaces/{id}/objects":                "scripts:read",
	"GET /accounts/{account}/containers/applications":                                        "scripts:read",
	"GET /accounts/{account}/storage/kv/namespaces":                                          "scripts:read",
	"GET /accounts/{account}/workers/subdomain":                                              "scripts:read",
	"PUT /accounts/{account}/workers/subdomain":                                              "admin",
	"GET /accounts/{account}/workers/subdomains/{name}":                                      "scripts:read",
	"GET /accounts/{account}/workers/scripts/{script}/subdomain":                             "scripts:read",
	"POST /accounts/{account}/workers/scripts/{script}/subdomain":                            "scripts:edit",
	"DELETE /accounts/{account}/workers/scripts/{script}/subdomain":                          "scripts:edit",
	"GET /accounts/{account}/workers/scripts/{script}/schedules":                             "scripts:read",
	"PUT /accounts/{account}/workers/scripts/{script}/schedules":                             "scripts:edit",
	"GET /accounts/{account}/workers/scripts/{script}/tails":                                 "scripts:edit logs:read",
	"POST /accounts/{account}/workers/scripts/{script}/tails":                                "scripts:edit logs:read",
	"DELETE /accounts/{account}/workers/scripts/{script}/tails/{id}":                         "scripts:edit logs:read",
	"POST /accounts/{account}/workers/scripts/{script}/domains/changeset":                    "scripts:read",
	"PUT /accounts/{account}/workers/scripts/{script}/domains/records":                       "scripts:edit",
	"GET /accounts/{account}/workers/domains":                                                "scripts:read",
	"PUT /accounts/{account}/workers/domains":                                                "scripts:edit",
	"GET /accounts/{account}/workers/domains/records":                                        "scripts:read",
	"GET /accounts/{account}/workers/domains/records/{id}":                                   "scripts:read",
	"GET /accounts/{account}/workers/domains/{id}":                                           "scripts:read",
	"DELETE /accounts/{account}/workers/domains/{id}":                                        "scripts:edit",
	"GET /zones":                                                         "scripts:read",
	"GET /zones/{zone}/workers/routes":                                   "scripts:read",
	"POST /zones/{zone}/workers/routes":                                  "scripts:edit",
	"GET /zones/{zone}/workers/routes/{id}":                              "scripts:read",
	"PUT /zones/{zone}/workers/routes/{id}":                              "scripts:edit",
	"DELETE /zones/{zone}/workers/routes/{id}":                           "scripts:edit",
	"GET /accounts/{account}/workers/scripts/{script}":                   "scripts:read",
	"PUT /accounts/{account}/workers/scripts/{script}":                   "scripts:edit",
	"GET /accounts/{account}/workers/scripts/{script}/content":           "scripts:read",
	"PUT /accounts/{account}/workers/scripts/{script}/content":           "scripts:edit",
	"GET /accounts/{account}/workers/scripts/{script}/content/v2":        "scripts:read",
	"GET /accounts/{account}/workers/scripts/{script}/settings":          "scripts:read",
	"PATCH /accounts/{account}/workers/scripts/{script}/settings":        "scripts:edit",
	"GET /accounts/{account}/workers/scripts/{script}/usage-model":       "scripts:read",
	"PUT /accounts/{account}/workers/scripts/{script}/usage-model":       "scripts:edit",
	"GET /accounts/{account}/workers/scripts/{script}/secrets":           "scripts:read",
	"PUT /accounts/{account}/workers/scripts/{script}/secrets":           "scripts:edit",
	"GET /accounts/{account}/workers/scripts/{script}/secrets/{name}":    "scripts:read",
	"DELETE /accounts/{account}/workers/scripts/{script}/secrets/{name}": "scripts:edit",
	"PATCH /accounts/{account}/workers/scripts/{script}/secrets-bulk":    "scripts:edit",
	"GET /accounts/{account}/workers/workers":                            "scripts:read",
	"POST /accounts/{account}/workers/workers":                           "scripts:edit",
	"GET /accounts/{account}/workers/workers/{worker}":                   "scripts:read",
	"PATCH /accounts/{account}/workers/workers/{worker}":                 "scripts:edit",
	"PUT /accounts/{account}/workers/workers/{worker}":                   "scripts:edit",
	"DELETE /accounts/{account}/workers/workers/{worker}":                "scripts:edit",
	"GET /accounts/{account}/workers/workers/{worker}/versions":          "scripts:read",
	"POST /accounts/{account}/workers/workers/{worker}/versions":         "scripts:edit",
	"PATCH /accounts/{account}/workers/workers/{worker}/versions/latest": "scripts:edit",
	"GET /accounts/{account}/workers/workers/{worker}/versions/{id}":     "scripts:read",
	"DELETE /accounts/{account}/workers/workers/{worker}/versions/{id}":  "scripts:edit",
	"GET /accounts/{account}/routing/versions/{id}":                      "routers",
	"GET /accounts/{account}/routing/modules/{sha256}":                   "routers",

	"POST /accounts/{account}/logpush/ownership":                  "logs:edit",
	"POST /accounts/{account}/logpush/ownership/validate":         "logs:edit",
	"POST /accounts/{account}/logpush/validate/origin":            "logs:edit",
	"GET /accounts/{account}/logpush/edge/jobs":                   "logs:read",
	"POST /accounts/{account}/logpush/edge/jobs":                  "logs:read",
	"POST /zones/{zone}/logpush/ownership":                        "logs:edit",
	"POST /zones/{zone}/logpush/ownership/validate":               "logs:edit",
	"POST /zones/{zone}/logpush/validate/origin":                  "logs:edit",
	"GET /zones/{zone}/logpush/edge/jobs":                         "logs:read",
	"POST /zones/{zone}/logpush/edge/jobs":                        "logs:read",
	"GET /accounts/{account}/logpush/transformers":                "logs:edit",
	"POST /accounts/{account}/logpush/transformers":               "logs:edit",
	"POST /accounts/{account}/logpush/transformers/preview":       "logs:edit",
	"GET /accounts/{account}/logpush/transformers/{id}":           "logs:edit",
	"PUT /accounts/{account}/logpush/transformers/{id}":           "logs:edit",
	"DELETE /accounts/{account}/logpush/transformers/{id}":        "logs:edit",
	"GET /accounts/{account}/logpush/transformers/{id}/content":   "logs:edit",
	"GET /accounts/{account}/logpush/transformers/{id}/versions":  "logs:edit",
	"GET /zones/{zone}/logpush/jobs":                              "logs:edit",
	"POST /zones/{zone}/logpush/jobs":                             "logs:edit",
	"GET /zones/{zone}/logpush/jobs/{id}":                         "logs:edit",
	"PUT /zones/{zone}/logpush/jobs/{id}":                         "logs:edit",
	"DELETE /zones/{zone}/logpush/jobs/{id}":                      "logs:edit",
	"GET /zones/{zone}/logpush/datasets/{dataset}/fields":         "logs:read",
	"GET /zones/{zone}/logpush/datasets/{dataset}/fields/default": "logs:read",
	"GET /zones/{zone}/logpush/datasets/{dataset}/jobs":           "logs:edit",
	"POST /zones/{zone}/logpush/validate/destination":             "logs:edit",
	"POST /zones/{zone}/logpush/validate/destination/exists":      "logs:edit",
}

// opens says which scopes a scope opens.
var opens = map[control.Scope]string{
	control.LogsRead:    "logs:read",
	control.LogsEdit:    "logs:read logs:edit",
	control.ScriptsRead: "scripts:read",
	control.ScriptsEdit: "scripts:read scripts:edit",
	control.PolicyEdit:  "policy:edit",
	control.Admin:       "logs:read logs:edit scripts:read scripts:edit policy:edit admin",
	control.Routers:     "routers",
}

func allowed(scope control.Scope, need string) bool {
	if need == "" {
		return true
	}
	for _, one := range strings.Fields(need) {
		if strings.Contains(" "+opens[scope]+" ", " "+one+" ") {
			return true
		}
	}
	return false
}

// aCaller is somebody who asks, by a token or by a session that stands for it.
type aCaller struct {
	name   string
	header http.Header
	// What they are: at most one of the first three, else a token of the account, or of
	// another one, with a scope or with none.
	unknown, operator, foreign bool
	scope                      control.Scope
}

// answers says how an operation that needs something must answer: a status and a code, or
// zero for whatever the endpoint itself does.
func (c aCaller) answers(operation, need string) (status, code int) {
	switch bound := strings.Contains(operation, "{account}"); {
	case c.unknown && operation == "GET /user/tokens/verify":
		return http.StatusUnauthorized, 1000
	case c.unknown:
		return http.StatusUnauthorized, 10000
	case c.operator:
		return 0, 0
	case need == "routers" && c.scope == control.Routers: // of every account
		return 0, 0
	case c.foreign && bound:
		return http.StatusForbidden, 9109
	case !allowed(c.scope, need):
		return http.StatusForbidden, 10000
	}
	return 0, 0
}

// everyCaller are all kinds of them: each scope and none, of the account and of another one,
// the operator, and tokens that have expired, were deleted or never were. Sessions stand
// for tokens that were good when they began.
func everyCaller(t *testing.T, p *platform, now *time.Time) []aCaller {
	t.Helper()
	other, err := p.CreateAccount(t.Context(), "Other")
	if err != nil {
		t.Fatal(err)
	}
	callers := []aCaller{
		{name: "nobody", header: http.Header{}, unknown: true},
		{name: "another scheme", header: http.Header{"Authorization": {"Basic " + p.token}}, unknown: true},
		{name: "a token that never was", header: bearer("wrong"), unknown: true},
		{name: "a session that never was", header: http.Header{"Cookie": {control.SessionCookie + "=wrong"}, "Sec-Fetch-Site": {"same-origin"}}, unknown: true},
	}
	add := func(c aCaller, secret string) {
		t.Helper()
		token, session := c, c
		token.name, token.header = "a token, "+c.name, bearer(secret)
		b := p.browser().signIn(t, secret)
		session.name, session.header = "a session, "+c.name, http.Header{"Cookie": {b.cookie.String()}, "Sec-Fetch-Site": {"same-origin"}}
		callers = append(callers, token, session)
	}
	made := func(accountID string, ends time.Time, scopes ...control.Scope) (id, secret string) {
		t.Helper()
		token, secret, err := p.store.CreateToken(t.Context(), control.Token{AccountID: accountID, Name: "caller", Scopes: scopes, ExpiresOn: ends})
		if err != nil {
			t.Fatal(err)
		}
		return token.ID, secret
	}
	add(aCaller{name: "the operator", operator: true}, p.token)
	for _, accountID := range []string{account, other.ID} {
		foreign := accountID != account
		_, secret := made(accountID, time.Time{})
		add(aCaller{name: "no scope", foreign: foreign}, secret)
		for _, scope := range control.Scopes {
			_, secret := made(accountID, time.Time{}, scope)
			add(aCaller{name: fmt.Sprintf("%s, foreign %t", scope, foreign), foreign: foreign, scope: scope}, secret)
		}
	}
	_, secret := made(account, now.Add(time.Minute), control.Admin)
	add(aCaller{name: "expired", unknown: true}, secret)
	id, secret := made(account, time.Time{}, control.Admin)
	add(aCaller{name: "deleted", unknown: true}, secret)
	if err := p.store.DeleteToken(t.Context(), account, id); err != nil {
		t.Fatal(err)
	}
	*now = now.Add(time.Minute)
	for i, c := range callers { // those who fail often do so from addresses of their own
		c.header.Set("X-Forwarded-For", fmt.Sprintf("192.0.2.%d", i))
	}
	return callers
}

// TestEveryOperationChecksWhoCalls is the whole table: every operation of openapi.yaml, and
// every kind of caller.
func TestEveryOperationChecksWhoCalls(t *testing.T) {
	now := time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	p := newPlatformAt(t, api.Config{Now: clock, GatewayURL: "http://localhost:8080", DurableObjects: true,
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, clock)
	operations := p.validator.Operations()
	if len(operations) != len(needed) {
		t.Errorf("openapi.yaml has %d operations, this table %d", len(operations), len(needed))
	}
	callers := everyCaller(t, p, &now)
	for _, operation := range operations {
		need, listed := needed[operation]
		if !listed {
			t.Errorf("%s is not in this table", operation)
			continue
		}
		method, path, _ := strings.Cut(operation, " ")
		path = "/client/v4" + strings.NewReplacer("{account}", account, "{script}", "none", "{id}", "7", "{dataset}", "workers_trace_events",
			"{zone}", "7", "{name}", "free", "{environment}", "production", "{worker}", "none", "{sha256}", "00").Replace(path)
		for _, c := range callers {
			a := p.do(t, method, path, c.header, "")
			switch status, code := c.answers(operation, need); {
			case status != 0:
				if a.status != status || len(a.Errors) != 1 || a.Errors[0].Code != code {
					t.Errorf("%s by %s answered %d %s, want %d with the code %d", operation, c.name, a.status, a.text, status, code)
				}
			case strings.Contains(operation, "/transformers"): // nobody has them
				a.want(t, http.StatusForbidden, 1004, "transformer feature is not available for this account")
			case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden || a.status >= 500:
				t.Errorf("%s by %s answered %d %s", operation, c.name, a.status, a.text)
			}
		}
	}
}

// TestEmptySegmentsOpenNothing: the router takes an empty segment for an account,
// and an empty account was every account: any token could read the jobs of all
// and make itself a token that opens all. Nothing that is no name may get further
// than the path, whatever the parameter and whoever calls.
func TestEmptySegmentsOpenNothing(t *testing.T) {
	p := newPlatform(t)
	_, admin, err := p.CreateToken(t.Context(), control.Token{AccountID: account, Name: "admin", Scopes: []control.Scope{control.Admin}})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{
		"{account}": account, "{script}": "shop", "{id}": "7", "{dataset}": "workers_trace_events", "{worker}": "shop", "{sha256}": "00",
		"{zone}": "7", "{name}": "free", "{environment}": "production",
	}
	before := p.picture(t)
	for _, operation := range p.validator.Operations() {
		method, path, _ := strings.Cut(operation, " ")
		for parameter := range names {
			if !strings.Contains(path, parameter) {
				continue
			}
			for _, value := range []string{"", "%2F", "%2f", account + "%2F", ".", "..", "%2e%2E", "%2E%2E%2F" + account, "%00", "%ff"} {
				sent := strings.Replace(path, parameter, value, 1)
				for other, name := range names {
					sent = strings.Replace(sent, other, name, 1)
				}
				for _, secret := range []string{p.token, admin} {
					a := p.do(t, method, "/client/v4"+sent, bearer(secret), `{"name": "own", "scopes": ["admin"]}`)
					if a.status != http.StatusNotFound || len(a.Errors) != 1 || a.Errors[0].Code != 7003 {
						t.Errorf("%s %s answered %d %s", method, sent, a.status, a.text)
					}
				}
			}
		}
	}
	if after := p.picture(t); after != before {
		t.Errorf("left:\n%s\nbefore:\n%s", after, before)
	}
}

// TestEncodedSlashStaysInItsName: the router decoded the path before it looked at
// the segments, so that the name of a script could reach another endpoint.
func TestEncodedSlashStaysInItsName(t *testing.T) {
	p := newPlatform(t)
	v := p.upload(t, "shop", "v1")
	var first string
	for range 2 {
		d, err := p.Deploy(t.Context(), account, "shop", []deploy.Split{split(v, 100)}, "")
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = d.ID
		}
	}
	wantKind(t, p.DeleteScript(t.Context(), account, "shop/deployments/"+first), errs.NotFound)
	if _, err := p.Deployment(t.Context(), account, "shop", first); err != nil {
		t.Errorf("deleting a script deleted a deployment: %v", err)
	}
	p.call(t, http.MethodGet, "/workers/scripts/a+b/routes", "").want(t, http.StatusNotFound, 10007, "a+b")
	p.call(t, http.MethodGet, "/workers%2Fscripts", "").want(t, http.StatusNotFound, 7003)
	if a := p.call(t, http.MethodGet, "/workers/scripts/%73hop/routes", ""); a.status != http.StatusOK {
		t.Errorf("an encoded letter answered %d %s", a.status, a.text)
	}
}

// TestRoutesOfEveryHostAreTheOperators: one account's route of every host gets
// what other accounts' routes leave.
func TestRoutesOfEveryHostAreTheOperators(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	_, admin, err := p.CreateToken(t.Context(), control.Token{AccountID: account, Name: "admin", Scopes: []control.Scope{control.Admin}})
	if err != nil {
		t.Fatal(err)
	}
	const path = "/client/v4/accounts/" + account + "/workers/scripts/shop/routes"
	for _, pattern := range []string{"*", "*/*", "HTTP://*/*", "https://*/admin"} {
		body := `[{"pattern": "` + pattern + `"}]`
		p.do(t, http.MethodPut, path, bearer(admin), body).want(t, http.StatusForbidden, 10000, strings.ToLower(pattern), "operator")
		if a := p.do(t, http.MethodPut, path, bearer(p.token), body); a.status != http.StatusOK {
			t.Errorf("%s by the operator answered %d %s", pattern, a.status, a.text)
		}
	}
}

// TestHostsOfOthersAreNotClaimed: no way of naming a host gives an account names of the
// gateway's domain that are not its own, or more of the others' than it registered.
func TestHostsOfOthersAreNotClaimed(t *testing.T) {
	p := newPlatform(t) // whose gateway's domain is localhost, and whose first account has the subdomain dev
	p.upload(t, "shop", "v1")
	other, err := p.CreateAccount(t.Context(), "Other")
	if err != nil {
		t.Fatal(err)
	}
	_, edit, err := p.CreateToken(t.Context(), control.Token{AccountID: account, Name: "edit", Scopes: []control.Scope{control.ScriptsEdit}})
	if err != nil {
		t.Fatal(err)
	}
	call := func(secret, method, path, body string) answer {
		t.Helper()
		return p.do(t, method, "/client/v4"+path, bearer(secret), body)
	}
	const base = "/accounts/" + account + "/workers"
	zone := func(name string) string {
		t.Helper()
		return "/zones/" + p.zoneNamed(t, name) + "/workers/routes"
	}
	claims := func(want int, why string, hosts ...string) {
		t.Helper()
		is := func(a answer, host string) {
			t.Helper()
			if want != http.StatusOK {
				a.want(t, want, 10000, host, why)
			} else if a.status != want {
				t.Errorf("%s answered %d %s", host, a.status, a.text)
			}
		}
		for _, host := range hosts {
			is(call(edit, http.MethodPut, base+"/scripts/shop/routes", `[{"pattern": "`+host+`/*"}]`), host)
			call(edit, http.MethodPut, base+"/scripts/shop/routes", `[]`)
			if strings.HasPrefix(host, "*") {
				continue
			}
			is(call(edit, http.MethodPut, base+"/scripts/shop/domains/records", `{"origins": [{"hostname": "`+host+`"}]}`), host)
			call(edit, http.MethodPut, base+"/scripts/shop/domains/records", `{"origins": []}`)
			is(call(edit, http.MethodPut, base+"/domains", `{"hostname": "`+host+`", "service": "shop"}`), host)
			call(edit, http.MethodPut, base+"/scripts/shop/domains/records", `{"origins": []}`)
		}
	}
	claims(http.StatusForbidden, "every name below", "*.com", "*co.uk", "*.localhost")
	claims(http.StatusForbidden, "the gateway's own domain", "localhost", "login."+other.Subdomain+".localhost", "*."+other.Subdomain+".localhost", "dev.localhost", "www.localhost")
	claims(http.StatusOK, "", "shop.example.com", "*.example.com", "shop.dev.localhost", "*.dev.localhost", "login.dev.localhost")

	// By zone: a route of a free name of the other account's, made and moved to.
	const free = "login.dev.localhost"
	theirs := other.Subdomain + ".localhost"
	for _, host := range []string{"login." + theirs, "*." + theirs} {
		call(edit, http.MethodPost, zone(theirs), `{"pattern": "`+host+`/*", "script": "shop"}`).want(t, http.StatusForbidden, 10000, host, "the gateway's own domain")
	}
	made := decoded[route](t, call(edit, http.MethodPost, zone("dev.localhost"), `{"pattern": "`+free+`/*", "script": "shop"}`))
	call(edit, http.MethodPut, zone("dev.localhost")+"/"+made.ID, `{"pattern": "dev.localhost/*", "script": "shop"}`).want(t, http.StatusForbidden, 10000, "dev.localhost", "the gateway's own domain")

	// The operator may, for any account.
	if a := call(p.token, http.MethodPut, base+"/scripts/shop/routes", `[{"pattern": "*.com/*"}, {"pattern": "www.localhost/*"}, {"pattern": "`+free+`/*"}]`); a.status != http.StatusOK {
		t.Errorf("the operator's routes answered %d %s", a.status, a.text)
	}

	// A subdomain is not left while what is below it would stay.
	_, admin, err := p.CreateToken(t.Context(), control.Token{AccountID: account, Name: "admin", Scopes: []control.Scope{control.Admin}})
	if err != nil {
		t.Fatal(err)
	}
	call(admin, http.MethodPut, base+"/subdomain", `{"subdomain": "elsewhere"}`).want(t, http.StatusConflict, 10020, "dev", free)
	if a := call(p.token, http.MethodPut, base+"/scripts/shop/routes", `[{"pattern": "www.theirs.localhost/*"}]`); a.status != http.StatusOK {
		t.Fatalf("the operator's routes answered %d %s", a.status, a.text)
	}
	call(p.token, http.MethodPut, "/accounts/"+other.ID+"/workers/subdomain", `{"subdomain": "theirs"}`).want(t, http.StatusConflict, 10031, "theirs")
	if a := call(admin, http.MethodPut, base+"/subdomain", `{"subdomain": "elsewhere"}`); a.status != http.StatusOK {
		t.Errorf("the subdomain answered %d %s", a.status, a.text)
	}
	claims(http.StatusForbidden, "the gateway's own domain", free)
}

// TestTokensBearTheAddressOfTheirMaker: what a token does is signed with its address, in the audit
// log and as an author.
func TestTokensBearTheAddressOfTheirMaker(t *testing.T) {
	p := newPlatform(t)
	_, admin, err := p.CreateToken(t.Context(), control.Token{AccountID: account, Name: "admin", Email: "ann@example.com", Scopes: []control.Scope{control.Admin}})
	if err != nil {
		t.Fatal(err)
	}
	create := func(secret, email string) answer {
		t.Helper()
		return p.do(t, http.MethodPost, "/client/v4/accounts/"+account+"/tokens", bearer(secret), `{"name": "ci", "scopes": ["logs:read"]`+email+`}`)
	}
	create(admin, `, "email": "bob@example.com"`).want(t, http.StatusForbidden, 10000, "bob@example.com", "not yours")
	for secret, emails := range map[string][]string{admin: {"", `, "email": null`, `, "email": "ann@example.com"`}, p.token: {`, "email": "ann@example.com"`}} {
		for _, email := range emails {
			if got := decoded[struct{ Email string }](t, create(secret, email)); got.Email != "ann@example.com" {
				t.Errorf("with %q the token bears %q", email, got.Email)
			}
		}
	}
}

// TestForeignAccountsLookLikeMissingOnes: a token must not find out which
// accounts exist.
func TestForeignAccountsLookLikeMissingOnes(t *testing.T) {
	p := newPlatform(t)
	other, err := p.CreateAccount(t.Context(), "Other")
	if err != nil {
		t.Fatal(err)
	}
	_, secret, err := p.CreateToken(t.Context(), control.Token{AccountID: account, Name: "own", Scopes: []control.Scope{control.Admin}})
	if err != nil {
		t.Fatal(err)
	}
	missing := strings.Repeat("f", 32)
	text := func(id string) string {
		a := p.do(t, http.MethodGet, "/client/v4/accounts/"+id+"/workers/scripts", bearer(secret), "")
		a.want(t, http.StatusForbidden, 9109)
		return strings.ReplaceAll(a.text, id, "ID")
	}
	if a, b := text(other.ID), text(missing); a != b {
		t.Errorf("an account that exists is refused with %s, one that does not with %s", a, b)
	}
	_, err = p.Account(t.Context(), missing)
	wantKind(t, err, errs.NotFound) // the operator may know
	_, err = p.Account(t.Context(), "a\x00b")
	wantKind(t, err, errs.NotFound)
}
