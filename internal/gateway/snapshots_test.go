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

	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
)

// source is a control plane that is asked over a network or answers oddly.
type source func(ctx context.Context, after int64) (*deploy.Snapshot, error)

func (s source) Snapshot(ctx context.Context, after int64) (*deploy.Snapshot, error) {
	return s(ctx, after)
}

// from sets the source and a time-out that a test can wait for.
func from(s source) setting {
	return func(c *gateway.Config, d *gateway.Deps, _ *runtime.Config) {
		c.SnapshotTimeout, d.Snapshots = 20*time.Millisecond, s
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
		return errors.Is(err, context.DeadlineExceeded) && strings.Contains(err.Error(), "no answer within 20ms")
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
