package api_test

import (
	"net/http"
	"testing"
	"time"

	"tidegate/internal/api/client"
	"tidegate/schema"
)

// callsStory is a part of TestEveryOperation. Tags of callers are looked up, and those of
// versions that are gone are left out.
func callsStory(t *testing.T, p *platform) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	v := p.upload(t, "front", "tagged")
	p.events.calls = []schema.CallPair{
		{CallerScript: "front", CallerVersionID: v.ID, CalleeScript: "stock", CalleeVersionID: "s2", CalleeTag: "v2", Requests: 8, Failures: 2, LastSeen: at},
		{CallerScript: "front", CallerVersionID: "gone", CalleeScript: "stock", CalleeVersionID: "s2", Requests: 4, LastSeen: at},
		{CalleeScript: "stock", CalleeVersionID: "s2", Requests: 1, Failures: 1, LastSeen: at},
	}
	got, err := p.Calls(t.Context(), account, client.CallQuery{Range: client.Range{Since: at, Until: at.Add(time.Hour)}, Caller: "front", Limit: 7})
	if err != nil || got.TotalPairs != 3 || len(got.Pairs) != 3 || !got.Since.Equal(at) || !got.Until.Equal(at.Add(time.Hour)) {
		t.Fatalf("answered %+v, error %v", got, err)
	}
	if q, _ := p.events.asked[len(p.events.asked)-1].(schema.CallQuery); q != (schema.CallQuery{AccountID: account, Since: at, Until: at.Add(time.Hour), Caller: "front", Limit: 7}) {
		t.Errorf("it was asked for %+v", q)
	}
	first, second, rpc := got.Pairs[0], got.Pairs[1], got.Pairs[2]
	if *first.Caller != (client.CalledVersion{Script: "front", VersionID: v.ID, Tag: "tagged"}) || first.Callee != (client.CalledVersion{Script: "stock", VersionID: "s2", Tag: "v2"}) ||
		first.Requests != 8 || first.Failures != 2 || *first.FailureRate != 0.25 || !first.LastSeen.Equal(at) {
		t.Errorf("the first pair is %+v", first)
	}
	if second.Caller.Tag != "" || *second.FailureRate != 0 || rpc.Caller != nil {
		t.Errorf("the others are %+v, %+v", second, rpc)
	}
	p.call(t, http.MethodGet, "/workers/calls?callee=nobody", "").want(t, http.StatusNotFound, 10007, "nobody")
	p.call(t, http.MethodGet, "/workers/calls?limit=1001", "").want(t, http.StatusBadRequest, 10001, "limit")
	p.call(t, http.MethodGet, "/workers/calls?since=2025-01-01T00:00:00Z", "").want(t, http.StatusBadRequest, 10001, "31 days")
}
