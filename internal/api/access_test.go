package api_test

import (
	"net/http"
	"strings"
	"testing"

	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// needed says which scope each operation needs: "" any token, "operator" the
// token that is bound to no account.
var needed = map[string]string{
	"GET /user":                                                          "",
	"GET /user/tokens/verify":                                            "",
	"GET /memberships":                                                   "",
	"GET /accounts":                                                      "",
	"POST /accounts":                                                     "operator",
	"GET /accounts/{account}":                                            "",
	"GET /accounts/{account}/tokens":                                     "admin",
	"POST /accounts/{account}/tokens":                                    "admin",
	"DELETE /accounts/{account}/tokens/{id}":                             "admin",
	"GET /accounts/{account}/workers/scripts":                            "scripts:read",
	"DELETE /accounts/{account}/workers/scripts/{script}":                "scripts:edit",
	"GET /accounts/{account}/workers/scripts/{script}/routes":            "scripts:read",
	"PUT /accounts/{account}/workers/scripts/{script}/routes":            "scripts:edit",
	"GET /accounts/{account}/workers/scripts/{script}/versions":          "scripts:read",
	"POST /accounts/{account}/workers/scripts/{script}/versions":         "scripts:edit",
	"GET /accounts/{account}/workers/scripts/{script}/metrics":           "scripts:read",
	"GET /accounts/{account}/logpush/jobs":                               "logs:edit",
	"POST /accounts/{account}/logpush/jobs":                              "logs:edit",
	"GET /accounts/{account}/logpush/jobs/{id}":                          "logs:edit",
	"PUT /accounts/{account}/logpush/jobs/{id}":                          "logs:edit",
	"DELETE /accounts/{account}/logpush/jobs/{id}":                       "logs:edit",
	"GET /accounts/{account}/logpush/datasets/{dataset}/fields":          "logs:read",
	"GET /accounts/{account}/logpush/datasets/{dataset}/jobs":            "logs:edit",
	"POST /accounts/{account}/logpush/validate/destination":              "logs:edit",
	"GET /accounts/{account}/routing/snapshot":                           "scripts:read",
	"GET /routing/snapshot":                                              "operator",
	"POST /accounts/{account}/logpush/validate/destination/exists":       "logs:edit",
	"GET /accounts/{account}/logpush/datasets/{dataset}/fields/default":  "logs:read",
	"GET /accounts/{account}/workers/scripts/{script}/versions/{id}":     "scripts:read",
	"GET /accounts/{account}/workers/scripts/{script}/deployments":       "scripts:read",
	"POST /accounts/{account}/workers/scripts/{script}/deployments":      "scripts:edit",
	"GET /accounts/{account}/workers/scripts/{script}/deployments/{id}":  "scripts:read",
	"GET /accounts/{account}/workers/scripts/{script}/script-settings":   "scripts:read",
	"PATCH /accounts/{account}/workers/scripts/{script}/script-settings": "scripts:edit",
	"GET /accounts/{account}/workers/scripts/{script}/rollback-policy":   "scripts:read policy:edit",
	"PUT /accounts/{account}/workers/scripts/{script}/rollback-policy":   "policy:edit",

	"DELETE /accounts/{account}/workers/scripts/{script}/deployments/{id}":   "scripts:edit",
	"DELETE /accounts/{account}/workers/scripts/{script}/rollback-policy":    "policy:edit",
	"GET /accounts/{account}/workers/scripts/{script}/rollback-policy/ramp":  "scripts:read policy:edit",
	"POST /accounts/{account}/workers/scripts/{script}/rollback-policy/ramp": "policy:edit",
	"GET /accounts/{account}/workers/scripts/{script}/rollback-decisions":    "scripts:read policy:edit",
}

// opens says which scopes a scope opens.
var opens = map[control.Scope]string{
	control.LogsRead:    "logs:read",
	control.LogsEdit:    "logs:read logs:edit",
	control.ScriptsRead: "scripts:read",
	control.ScriptsEdit: "scripts:read scripts:edit",
	control.PolicyEdit:  "policy:edit",
	control.Admin:       "logs:read logs:edit scripts:read scripts:edit policy:edit admin",
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

func TestEveryOperationChecksWhoCalls(t *testing.T) {
	p := newPlatform(t)
	operations := p.validator.Operations()
	if len(operations) != len(needed) {
		t.Errorf("openapi.yaml has %d operations, this table %d", len(operations), len(needed))
	}
	other, err := p.CreateAccount(t.Context(), "Other")
	if err != nil {
		t.Fatal(err)
	}
	token := func(accountID string, scope control.Scope) string {
		_, secret, err := p.CreateToken(t.Context(), control.Token{AccountID: accountID, Name: string(scope), Scopes: []control.Scope{scope}})
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	own := make(map[control.Scope]string)
	for _, scope := range control.Scopes {
		own[scope] = token(account, scope)
	}
	foreign := token(other.ID, control.Admin)

	for _, operation := range operations {
		need, listed := needed[operation]
		if !listed {
			t.Errorf("%s is not in this table", operation)
			continue
		}
		method, path, _ := strings.Cut(operation, " ")
		bound := strings.Contains(path, "{account}")
		path = "/client/v4" + strings.NewReplacer("{account}", account, "{script}", "none", "{id}", "7", "{dataset}", "workers_trace_events").Replace(path)
		send := func(secret string) answer { return p.do(t, method, path, bearer(secret), "") }
		passes := func(who string, a answer) {
			t.Helper()
			if a.status == http.StatusUnauthorized || a.status == http.StatusForbidden || a.status >= 500 {
				t.Errorf("%s by %s answered %d %s", operation, who, a.status, a.text)
			}
		}

		unauthorizedCode := 10000
		if operation == "GET /user/tokens/verify" {
			unauthorizedCode = 1000
		}
		send("wrong").want(t, http.StatusUnauthorized, unauthorizedCode)
		p.do(t, method, path, nil, "").want(t, http.StatusUnauthorized, unauthorizedCode, "no API token")
		p.do(t, method, path, http.Header{"Authorization": {"Basic " + p.token}}, "").want(t, http.StatusUnauthorized, unauthorizedCode, "Bearer")
		passes("the operator", send(p.token))
		if bound {
			send(foreign).want(t, http.StatusForbidden, 9109, account)
		}
		for scope, secret := range own {
			if allowed(scope, need) {
				passes(string(scope), send(secret))
			} else {
				send(secret).want(t, http.StatusForbidden, 10000)
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
