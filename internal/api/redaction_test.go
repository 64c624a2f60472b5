package api_test

import (
	"net/http"
	"reflect"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// redaction is a part of TestEveryOperation.
func redaction(t *testing.T, p *platform) {
	ctx := t.Context()
	const body = `{"headers":["X-Customer"],"query_parameters":["email"],"paths":["/users/*"],"patterns":["SSN-[0-9]+"],"built_ins":["tokens","credit_cards"]}`
	for _, path := range []string{"/workers/scripts/shop/redaction", "/redaction"} {
		p.call(t, http.MethodGet, path, "").want(t, http.StatusNotFound, 10007, "no redaction rules")
		for _, a := range []answer{p.call(t, http.MethodPut, path, body), p.call(t, http.MethodGet, path, "")} {
			if a.status != http.StatusOK || string(a.Result) != body {
				t.Errorf("answered %d %s, want %s", a.status, a.text, body)
			}
		}
		p.call(t, http.MethodPut, path, `{}`).want(t, http.StatusBadRequest, 10001, "the redaction has no rule")
		p.call(t, http.MethodPut, path, `{"patterns":["("]}`).want(t, http.StatusBadRequest, 10001, "patterns[0] is no regular expression of RE2", "missing closing )")
		p.call(t, http.MethodPut, path, `{"headrs":["a"]}`).want(t, http.StatusBadRequest, 10001, "headrs")
	}
	own := deploy.Redaction{Headers: []string{"X-Own"}, BuiltIns: []deploy.RedactionBuiltIn{deploy.RedactEmails}}
	all := deploy.Redaction{Headers: []string{"X-All"}, BuiltIns: []deploy.RedactionBuiltIn{deploy.RedactEmails}}
	if err := p.SaveRedaction(ctx, account, "shop", own); err != nil {
		t.Fatal(err)
	}
	if err := p.SaveRedaction(ctx, account, "", all); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Redaction(ctx, account, ""); err != nil || !reflect.DeepEqual(got, all) {
		t.Errorf("the client reads %+v, error %v", got, err)
	}
	snapshot, err := p.Snapshot(ctx, account, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range snapshot.Scripts {
		want := all
		if script.Name == "shop" {
			want.Headers = []string{"X-All", "X-Own"}
		}
		if script.Redaction == nil || !script.Redaction.Equal(&want) {
			t.Errorf("gateways get %+v for %s, want %+v", script.Redaction, script.Name, want)
		}
	}
	for range 2 { // the second finds none
		for _, script := range []string{"shop", ""} {
			if err := p.DeleteRedaction(ctx, account, script); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, err = p.Redaction(ctx, account, "shop")
	wantKind(t, err, errs.NotFound)
	wantKind(t, p.DeleteRedaction(ctx, account, "none"), errs.NotFound)
}
