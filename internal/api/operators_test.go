package api_test

import (
	"net/http"
	"testing"
	"time"

	"tidegate/internal/api/client"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// operatorTokens is a part of TestEveryOperation.
func operatorTokens(t *testing.T, p *platform) {
	ctx := t.Context()
	ends := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	made, secret, err := p.CreateOperatorToken(ctx, control.Token{Name: "ann", Email: "ann@example.com", ExpiresOn: ends})
	if err != nil || made.Name != "ann" || made.Email != "ann@example.com" || !made.ExpiresOn.Equal(ends) || len(made.Scopes) != 1 || made.Scopes[0] != control.Admin {
		t.Fatalf("made %+v, error %v", made, err)
	}
	ann := client.New(p.url, secret, p.http)
	b := p.browser().signIn(t, secret)
	if a := b.do(t, http.MethodGet, "/client/v4/user/tokens", ""); a.status != http.StatusOK {
		t.Errorf("her session answered %d %s", a.status, a.text)
	}
	list, err := ann.OperatorTokens(ctx)
	if err != nil || len(list) != 2 || list[0].Name != "operator" || list[1].ID != made.ID || list[1].LastUsedOn.IsZero() {
		t.Errorf("the list is %+v, error %v", list, err)
	}

	rolled, err := ann.RollOperatorToken(ctx, made.ID) // by itself
	if err != nil {
		t.Fatal(err)
	}
	_, err = ann.OperatorTokens(ctx)
	wantKind(t, err, errs.Unauthorized)
	if a := b.do(t, http.MethodGet, "/client/v4/user/tokens", ""); a.status != http.StatusUnauthorized {
		t.Errorf("her session answered %d %s after the secret was replaced", a.status, a.text)
	}
	ann = client.New(p.url, rolled, p.http)
	if _, err := ann.OperatorTokens(ctx); err != nil {
		t.Errorf("the new secret opens nothing: %v", err)
	}
	log, _, err := p.AuditLog(ctx, account, client.AuditQuery{Action: "token", Resource: made.ID})
	if err != nil || len(log) != 2 || log[0].Action.Type != "token.roll" || log[0].Actor.Email != "ann@example.com" || log[1].Action.Type != "token.create" {
		t.Errorf("operators see %+v, error %v", log, err)
	}
	_, admin, err := p.CreateToken(ctx, control.Token{AccountID: account, Name: "admin", Scopes: []control.Scope{control.Admin}})
	if err != nil {
		t.Fatal(err)
	}
	if log, _, err := client.New(p.url, admin, p.http).AuditLog(ctx, account, client.AuditQuery{Resource: made.ID}); err != nil || len(log) != 0 {
		t.Errorf("an account's admin sees %+v, error %v", log, err)
	}
	wantKind(t, client.New(p.url, admin, p.http).DeleteOperatorToken(ctx, made.ID), errs.Forbidden)
	if err := p.DeleteOperatorToken(ctx, made.ID); err != nil {
		t.Error(err)
	}
	_, err = ann.OperatorTokens(ctx)
	wantKind(t, err, errs.Unauthorized)
	wantKind(t, p.DeleteOperatorToken(ctx, made.ID), errs.NotFound)
	_, err = p.RollOperatorToken(ctx, made.ID)
	wantKind(t, err, errs.NotFound)
}

// Operators may all be people, and the database has another token for who has access to it.
func TestTheLastOperatorTokenMayGo(t *testing.T) {
	p := newPlatform(t)
	list, err := p.OperatorTokens(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("there are %+v, error %v", list, err)
	}
	if err := p.DeleteOperatorToken(t.Context(), list[0].ID); err != nil {
		t.Error(err)
	}
	_, err = p.OperatorTokens(t.Context())
	wantKind(t, err, errs.Unauthorized)
}

func TestOperatorTokensAreRefusedByName(t *testing.T) {
	p := newPlatform(t)
	f := func(body string, words ...string) {
		t.Helper()
		p.do(t, http.MethodPost, "/client/v4/user/tokens", bearer(p.token), body).want(t, http.StatusBadRequest, 10001, words...)
	}
	f(`{}`, "name")
	f(`{"name": "ann", "scopes": ["logs:read"]}`, `scopes has "logs:read"`, "admin")
	f(`{"name": "ann", "expires_on": "2020-01-01T00:00:00Z"}`, "has passed")
	f(`{"name": "ann", "policies": [{}]}`, "policies is not supported")
	if a := p.do(t, http.MethodPost, "/client/v4/user/tokens", bearer(p.token), `{"name": "ann", "scopes": ["admin"]}`); a.status != http.StatusOK {
		t.Errorf("answered %d %s", a.status, a.text)
	}
}
