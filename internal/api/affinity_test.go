package api_test

import (
	"net/http"
	"reflect"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// affinity is a part of TestEveryOperation.
func affinity(t *testing.T, p *platform) {
	ctx := t.Context()
	const path = "/workers/scripts/shop/affinity"
	p.call(t, http.MethodGet, path, "").want(t, http.StatusNotFound, 10007, "shop", "no affinity rules")
	const body = `{"rules":[{"source":"cookie","name":"user_id"},{"source":"path","prefix":"/rooms/"},{"source":"path","segment":2},{"source":"client_ip","forward":true},{"source":"cookie","name":"visitor","set":{"max_age":2592000,"secure":"always","partitioned":true}}]}`
	for _, a := range []answer{p.call(t, http.MethodPut, path, body), p.call(t, http.MethodGet, path, "")} {
		if a.status != http.StatusOK || string(a.Result) != body {
			t.Errorf("answered %d %s, want %s", a.status, a.text, body)
		}
	}
	no := false
	want := deploy.Affinity{Rules: []deploy.AffinityRule{
		{Source: deploy.AffinityHeader, Name: "X-User"}, {Source: deploy.AffinityQuery, Name: "room"},
		{Source: deploy.AffinityCookie, Name: "visitor", Forward: &no, Set: &deploy.AffinityCookieAttributes{MaxAge: 60, SameSite: deploy.CookieNone, Secure: deploy.CookieSecureAlways, Path: "/a"}},
	}}
	if err := p.SaveAffinity(ctx, account, "shop", want); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Affinity(ctx, account, "shop"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the client reads %+v, error %v", got, err)
	}
	snapshot, err := p.Snapshot(ctx, account, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range snapshot.Scripts {
		if (script.Name == "shop") != reflect.DeepEqual(script.Affinity, want.Rules) {
			t.Errorf("gateways get %+v for %s", script.Affinity, script.Name)
		}
	}
	for range 2 { // the second finds none
		if err := p.DeleteAffinity(ctx, account, "shop"); err != nil {
			t.Fatal(err)
		}
	}
	_, err = p.Affinity(ctx, account, "shop")
	wantKind(t, err, errs.NotFound)
	wantKind(t, p.DeleteAffinity(ctx, account, "none"), errs.NotFound)
}
