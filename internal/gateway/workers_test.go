package gateway_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
)

// workers is a runtime whose versions are handlers in this process.
type workers struct {
	mu       sync.Mutex
	changed  chan struct{}
	versions map[string]*worker
	callers  map[string]deploy.Caller // by nonce; not changed after the start
	inForce  map[string]bool          // as Release was told last
}

type worker struct {
	w     *workers
	id    string
	state deploy.BackendState
	serve http.HandlerFunc
	seen  int
	named map[string]http.HandlerFunc // entry points
	dial  func(entrypoint string) (net.Conn, error)
}

func newWorkers(ids ...string) *workers {
	w := &workers{changed: make(chan struct{}), versions: map[string]*worker{}}
	for _, id := range ids {
		w.versions[id] = &worker{w: w, id: id, state: deploy.BackendState{Phase: deploy.BackendReady}, serve: says(id[:1])}
	}
	return w
}

// become puts versions into a phase.
func (w *workers) become(phase deploy.BackendPhase, ids ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		w.versions[id].state = deploy.BackendState{Phase: phase}
		if phase == deploy.BackendFailed {
			w.versions[id].state.Error = "Syntax\x00Error"
		}
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *workers) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// Update knows the versions of w and no others.
func (w *workers) Update(s *deploy.Snapshot) map[string]http.RoundTripper {
	all := map[string]http.RoundTripper{}
	for i := range s.Scripts {
		for _, v := range s.Scripts[i].Versions {
			if known := w.versions[v.ID]; known != nil {
				all[v.ID] = known
			}
		}
	}
	return all
}

func (w *workers) Release(inForce func(versionID string) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inForce = map[string]bool{}
	for id := range w.versions {
		w.inForce[id] = inForce(id)
	}
}

// wantInForce checks which versions are the ones that a deployment in force names.
func (w *workers) wantInForce(t *testing.T, ids ...string) {
	t.Helper()
	waitFor(t, "the versions in force", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for id, is := range w.inForce {
			if is != slices.Contains(ids, id) {
				return false
			}
		}
		return true
	})
}

// processOf is the one process that a version has here.
func processOf(versionID string) deploy.Process {
	return deploy.Process{VersionID: versionID, Number: 1}
}

func (v *worker) State() deploy.BackendState {
	v.w.mu.Lock()
	defer v.w.mu.Unlock()
	return v.state
}

func (v *worker) RoundTrip(r *http.Request) (*http.Response, error) {
	v.w.mu.Lock()
	failed := v.state.Phase == deploy.BackendFailed
	v.seen++
	v.w.mu.Unlock()
	if failed {
		return nil, &runtime.Error{Kind: "connect", Op: "start", Err: context.DeadlineExceeded}
	}
	deploy.RequestSentTo(r.Context(), processOf(v.id))
	rec := httptest.NewRecorder()
	v.serve(rec, r)
	return rec.Result(), nil
}

func (w *workers) Caller(nonce string) (deploy.Caller, bool) {
	c, ok := w.callers[nonce]
	return c, ok
}

type entrypoint struct {
	*worker
	name string
}

func (v *worker) Entrypoint(name string) http.RoundTripper { return entrypoint{v, name} }

func (e entrypoint) RoundTrip(r *http.Request) (*http.Response, error) {
	serve := e.named[e.name]
	if serve == nil {
		return nil, &runtime.Error{Kind: "protocol", Op: "call", Err: errors.New("no such entry point")}
	}
	deploy.RequestSentTo(r.Context(), processOf(e.id))
	rec := httptest.NewRecorder()
	serve(rec, r)
	return rec.Result(), nil
}

func (v *worker) DialRPC(_ context.Context, entrypoint string) (net.Conn, error) {
	return v.dial(entrypoint)
}

func (w *workers) Scheduled(context.Context, string, string, time.Time) (string, error) {
	return "", errors.New("no schedule is due in these tests")
}

func (w *workers) use(_ *gateway.Config, deps *gateway.Deps, _ *runtime.Config) {
	deps.Backends, deps.Workers = w, w
}

// workerScript is script with Workers versions: those of the ids, with shares.
func workerScript(name string, ids []string, percentages ...deploy.Percentage) deploy.SnapshotScript {
	sc := deploy.SnapshotScript{AccountID: account, Subdomain: "dev", Name: name, Tags: []string{"team:web"}}
	for i, id := range ids {
		sc.Versions = append(sc.Versions, deploy.SnapshotVersion{
			ID: id, Tag: id[:1], Message: "message of " + id[:1],
			Worker: &deploy.SnapshotWorker{Exports: deploy.Exports{Handlers: []string{"fetch", "scheduled"}}},
		})
		if i < len(percentages) {
			sc.DeploymentID += id[:1]
			sc.Splits = append(sc.Splits, deploy.Split{VersionID: id, Percentage: percentages[i]})
		}
	}
	return sc
}

// seen is how many requests reached a version.
func (w *workers) seen(id string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.versions[id].seen
}

func (e *env) wantBody(t *testing.T, url, want string, headers ...string) {
	t.Helper()
	if a := e.get(t, url, headers...); a.body != want {
		t.Errorf("%s answered %d %q, want %q", url, a.StatusCode, a.body, want)
	}
}
