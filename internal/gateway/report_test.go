package gateway_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
)

// reports is a control plane that can be away.
type reports struct {
	mu    sync.Mutex
	away  bool
	tried int
	list  []deploy.VersionReport
}

func (r *reports) Report(_ context.Context, list []deploy.VersionReport) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tried++
	if r.away {
		return errors.New("away")
	}
	r.list = append(r.list, list...)
	return nil
}

func (r *reports) set(away bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = away
}

// of returns the phases that a version was said to have, in their order.
func (r *reports) of(id string) (phases []deploy.BackendPhase) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, report := range r.list {
		if report.VersionID == id {
			phases = append(phases, report.Phase)
		}
	}
	return phases
}

// What cannot start and what serves again is told, the newest state once, whatever
// happened while the control plane was away.
func TestReports(t *testing.T) {
	w, told := newWorkers(v1, v2, v3), &reports{}
	start(t, snapshot(1, workerScript("shop", []string{v1, v2}, 100_000)), w.use,
		func(c *gateway.Config, d *gateway.Deps, _ *runtime.Config) { c.RouterID, d.Reports = "router-1", told })
	want := func(id string, phases ...deploy.BackendPhase) {
		t.Helper()
		waitFor(t, "the report", func() bool { return len(told.of(id)) >= len(phases) })
		if got := told.of(id); !slices.Equal(got, phases) {
			t.Errorf("%s was said to be %v, want %v", id, got, phases)
		}
	}
	want(v1, deploy.BackendReady)
	w.become(deploy.BackendFailed, v2) // nobody deployed it
	want(v2, deploy.BackendFailed)
	told.set(true)
	w.become(deploy.BackendFailed, v1)
	tried := func() int { told.mu.Lock(); defer told.mu.Unlock(); return told.tried }
	before := tried()
	waitFor(t, "an attempt", func() bool { return tried() > before })
	w.become(deploy.BackendStarting, v1)
	w.become(deploy.BackendReady, v1)
	w.become(deploy.BackendFailed, v1)
	w.become(deploy.BackendReady, v2)
	told.set(false)
	want(v2, deploy.BackendFailed, deploy.BackendReady)
	want(v1, deploy.BackendReady, deploy.BackendFailed)
	told.mu.Lock()
	defer told.mu.Unlock()
	for _, r := range told.list {
		if r.AccountID != account || r.Script != "shop" || r.RouterID != "router-1" || r.At.IsZero() || (r.Error == "SyntaxError") != (r.Phase == deploy.BackendFailed) {
			t.Errorf("report %+v", r)
		}
	}
}
