package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidegate/internal/api"
	"tidegate/internal/store"
	"tidegate/schema/control"
)

// facts are what the parts would say, on a database that is there.
type facts struct {
	store *store.Store
	rest  control.SystemFacts
}

func (f facts) SystemFacts(ctx context.Context) control.SystemFacts {
	out := f.rest
	if out.Database.Err == nil {
		out.Database.Err = f.store.SystemFacts(ctx, &out)
	}
	return out
}

// systemHealth is a part of TestEveryOperation.
func systemHealth(t *testing.T, p *platform) {
	now := time.Now().UTC()
	r := control.RouterState{ID: "edge/1:8080", Version: "v1", StartedOn: now.Add(-time.Hour), Revision: 7, ConfirmedOn: now, SentOn: now,
		SpoolBytes: 900, SpoolBytesMax: 1000, Dropped: map[string]int64{"spool_full": 3}, DroppedOn: now.Add(-time.Minute), ProducerIDsRefused: true}
	// A slash is part of a name, and of no path.
	if err := p.SaveRouter(t.Context(), r); err == nil {
		t.Error("a router whose id has a slash was kept")
	}
	r.ID = "edge-1:8080"
	if err := p.SaveRouter(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	p.do(t, http.MethodGet, "/client/v4/system/health", bearer(p.token), "").ok(t, `"state":"down"`, // nobody has the lease
		`"kind":"router","name":"edge-1:8080","state":"degraded"`, "Its spool is 90% full", "It has lost 3 events since it started", "Kafka gives it no producer ids", `"dropped":{"spool_full":3}`,
		`"kind":"ingest","name":"Ingest","state":"ok"`, `"kind":"rollback","name":"Rollback controller","state":"down"`)
	f := func(body string, words ...string) {
		t.Helper()
		p.do(t, http.MethodPut, "/client/v4/routing/routers/edge-1:8080", bearer(p.token), body).want(t, http.StatusBadRequest, 10001, words...)
	}
	f(`{"id": "another", "started_on": "2026-01-01T00:00:00Z"}`, "of the path")
	f(`{"id": "edge-1:8080"}`, "started_on")
	f(`{"id": "edge-1:8080", "started_on": "2026-01-01T00:00:00Z", "snapshot_error": "`+strings.Repeat("x", 5000)+`"}`, "5000 bytes")
	r.Stopping = true
	if err := p.SaveRouter(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if a := p.do(t, http.MethodGet, "/client/v4/system/health", bearer(p.token), ""); strings.Contains(a.text, "edge-1") || !strings.Contains(a.text, "No router has told of itself") {
		t.Errorf("after its good-bye: %s", a.text)
	}
}

type apiTokens = api.Tokens // has a method of its own name

// slowTokens are those of a database that hangs.
type slowTokens struct {
	apiTokens
	t *testing.T
}

func (s slowTokens) Authenticate(ctx context.Context, _ string) (control.Token, error) {
	if _, limited := ctx.Deadline(); !limited {
		s.t.Error("the health page waits for the database for ever")
	}
	return control.Token{}, fmt.Errorf("authenticate: %w", context.DeadlineExceeded)
}

func TestSystemHealthWithoutADatabase(t *testing.T) {
	p := newPlatformAt(t, api.Config{}, nil, func(d *api.Deps) { d.Tokens = slowTokens{d.Tokens, t} })
	p.do(t, http.MethodGet, "/client/v4/system/health", bearer(p.token), "").want(t, http.StatusServiceUnavailable, 10013, "the database does not answer within 5s")
}

// A page about what is down must not be down with it.
func TestSystemHealthWithoutAnything(t *testing.T) {
	gone := errors.New("secret detail")
	p := newPlatformAt(t, api.Config{}, nil, func(d *api.Deps) {
		down := control.Answer{Err: gone}
		built := control.Build{Version: "v", Commit: "4ac8121", Date: time.Date(2026, 11, 27, 18, 5, 21, 0, time.UTC), Go: "go1.26.8"}
		d.System = facts{rest: control.SystemFacts{Build: built, Database: down, Kafka: down, Engine: down}}
	})
	a := p.do(t, http.MethodGet, "/client/v4/system/health", bearer(p.token), "")
	a.ok(t, `"version":"v","commit":"4ac8121","commit_date":"2026-11-27T18:05:21.000000Z","go_version":"go1.26.8"`, `"kind":"database"`, `"kind":"router","name":"router","state":"unknown"`, `"kind":"ingest","name":"Ingest","state":"unknown"`)
	for _, unknown := range []string{"revision", "lag_events", "newest_event_on", "answered_ms", "waiting", "secret"} {
		if strings.Contains(a.text, unknown) {
			t.Errorf("%s is in the answer: %s", unknown, a.text)
		}
	}
}
