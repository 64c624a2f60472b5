package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/api/client"
	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
	accounts "tidegate/schema/control"
)

// source is a control plane that is asked over a network or answers oddly.
type source func(ctx context.Context, after int64) (*deploy.Snapshot, error)

func (s source) Snapshot(ctx context.Context, after int64) (*deploy.Snapshot, error) {
	return s(ctx, after)
}

// from sets the source and a time-out that a test can wait for, and a control plane on a busy machine keeps.
func from(s source) setting {
	return func(c *gateway.Config, d *gateway.Deps, _ *runtime.Config) {
		c.SnapshotTimeout, d.Snapshots = 250*time.Millisecond, s
	}
}

// A control plane that takes the question and never answers used to keep the
// gateway from ever asking again.
func TestSilentControlPlane(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // the kernel takes connections for it, and nobody else
	var next atomic.Pointer[string]
	sc := script([]string{origin(t, says("served"))}, 100_000)
	var revision atomic.Int64
	talking := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(snapshot(revision.Load(), sc))
	}))
	t.Cleanup(talking.Close)
	ask := func(url string) { next.Store(&url) }
	revision.Store(1)
	ask(talking.URL)
	e := start(t, nil, from(func(ctx context.Context, _ int64) (*deploy.Snapshot, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, *next.Load(), nil)
		if err != nil {
			return nil, err
		}
		resp, err := talking.Client().Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		s := new(deploy.Snapshot)
		return s, json.NewDecoder(resp.Body).Decode(s)
	}))
	waitFor(t, "the first snapshot", func() bool { return e.Revision() == 1 })

	ask("http://" + l.Addr().String())
	waitFor(t, "the silence to show", func() bool {
		err := e.Status().SyncError
		return errors.Is(err, context.DeadlineExceeded) && strings.Contains(err.Error(), "no answer within 250ms")
	})
	if a := e.get(t, shop+"/"); a.body != "served" || e.Ready() != nil {
		t.Errorf("got %q, %v", a.body, e.Ready())
	}
	revision.Store(2)
	ask(talking.URL)
	waitFor(t, "the news", func() bool { return e.Revision() == 2 && e.Status().SyncError == nil })
}

// A control plane that was restored from a backup counts from an older revision.
// It used to pass for one that confirms what is being served.
func TestRestoredControlPlane(t *testing.T) {
	sc := script([]string{origin(t, says("newest"))}, 100_000)
	var revision, asked atomic.Int64
	revision.Store(9)
	e := start(t, nil, keepIn(t.TempDir()+"/snapshot.json"), from(func(context.Context, int64) (*deploy.Snapshot, error) {
		asked.Add(1)
		return snapshot(revision.Load(), sc), nil
	}))
	waitFor(t, "the newest snapshot", func() bool { return e.Revision() == 9 })

	revision.Store(7)
	waitFor(t, "the older one to show", func() bool {
		err := e.Status().SyncError
		return err != nil && strings.Contains(err.Error(), "older than 9") && strings.Contains(err.Error(), "snapshot.json and start it again")
	})
	confirmed, before := e.Status().Confirmed, asked.Load()
	waitFor(t, "another refusal", func() bool { return asked.Load() >= before+2 })
	if !e.Status().Confirmed.Equal(confirmed) || e.Revision() != 9 || e.Ready() != nil {
		t.Errorf("status %+v, ready %v", e.Status(), e.Ready())
	}
	revision.Store(9)
	waitFor(t, "the confirmation", func() bool { return e.Status().Confirmed.After(confirmed) && e.Status().SyncError == nil })
}

// Whatever a control plane answers that is no snapshot, the last good one serves, the
// trouble shows, and it ends when the control plane is well again. Members that only a
// newer control plane knows are no trouble: it is upgraded before its gateways.
func TestBadAnswersOfTheControlPlane(t *testing.T) {
	sc := script([]string{origin(t, says("good"))}, 100_000)
	snapshotOf := func(revision int64) string {
		raw, err := json.Marshal(snapshot(revision, sc))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	envelope := func(result string) string {
		return `{"success":true,"errors":[],"messages":[],"result":` + result + `}`
	}
	var answer atomic.Pointer[http.HandlerFunc]
	say := func(h http.HandlerFunc) { answer.Store(&h) }
	text := func(status int, body string) {
		say(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		})
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*answer.Load())(w, r) }))
	t.Cleanup(server.Close)
	text(http.StatusOK, envelope(snapshotOf(5)))
	control := client.New(server.URL, "token", nil)
	e := start(t, nil, from(control.SnapshotAll), func(c *gateway.Config, _ *gateway.Deps, _ *runtime.Config) { c.SnapshotTimeout = time.Second })
	waitFor(t, "the first snapshot", func() bool { return e.Revision() == 5 })

	next := int64(5)
	f := func(name string, bad func()) {
		t.Helper()
		bad()
		waitFor(t, name+" to show", func() bool { return e.Status().SyncError != nil })
		if a := e.get(t, shop+"/"); a.body != "good" || e.Revision() != next || e.Ready() != nil {
			t.Errorf("%s: got %q at revision %d, %v", name, a.body, e.Revision(), e.Ready())
		}
		next++
		text(http.StatusOK, envelope(snapshotOf(next)))
		waitFor(t, "the end of "+name, func() bool { return e.Revision() == next && e.Status().SyncError == nil })
	}
	good := envelope(snapshotOf(99))
	f("half an answer", func() { text(http.StatusOK, good[:len(good)/2]) })
	f("an answer that breaks off", func() {
		say(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(good[:len(good)/2]))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
	})
	f("a page", func() { text(http.StatusOK, "<html>Login</html>") })
	f("an error", func() {
		text(http.StatusInternalServerError, `{"success":false,"errors":[{"code":10001,"message":"internal error"}]}`)
	})
	f("a wrong token", func() {
		text(http.StatusForbidden, `{"success":false,"errors":[{"code":10000,"message":"Authentication error"}]}`)
	})
	f("a number for a name", func() { text(http.StatusOK, strings.Replace(good, `"name":"shop"`, `"name":7`, 1)) })
	f("more than all", func() { text(http.StatusOK, strings.Replace(good, `"percentage":100`, `"percentage":100.5`, 1)) })
	f("less than all", func() { text(http.StatusOK, strings.Replace(good, `"percentage":100`, `"percentage":99.5`, 1)) })
	f("no account", func() { text(http.StatusOK, strings.Replace(good, account, "", 1)) })
	f("two versions of one id", func() {
		double := sc
		double.Versions = append(double.Versions, deploy.SnapshotVersion{ID: v1, Origin: &deploy.Origin{URL: "http://10.0.0.1"}})
		raw, err := json.Marshal(snapshot(99, double))
		if err != nil {
			t.Fatal(err)
		}
		text(http.StatusOK, envelope(string(raw)))
	})
	f("an older one", func() { text(http.StatusOK, envelope(snapshotOf(1))) })
	f("silence", func() {
		say(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(time.Minute):
			}
		})
	})

	text(http.StatusOK, envelope(strings.Replace(snapshotOf(next+1), `"scripts":`, `"newer":{"a":1},"scripts":`, 1)))
	waitFor(t, "the snapshot with an unknown member", func() bool { return e.Revision() == next+1 && e.Status().SyncError == nil })
}

// A token for one account opens no snapshot of all: a gateway never serves the half of
// its scripts for the whole.
func TestTokenOfOneAccountGivesNoSnapshot(t *testing.T) {
	p := newPlane(t)
	other, err := p.CreateAccount(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	_, secret, err := p.CreateToken(t.Context(), accounts.Token{AccountID: other.ID, Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	p.upload(t, "http://127.0.0.1:1")
	e := start(t, nil, from(client.New(p.server.URL, secret, nil).SnapshotAll))
	waitFor(t, "the refusal", func() bool { return e.Status().SyncError != nil })
	if e.Ready() == nil || e.Revision() != 0 {
		t.Errorf("serves revision %d", e.Revision())
	}
}
