package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"tidegate/internal/deploy"
)

// inPhase is a backend of a Worker whose process is where it is said to be.
type inPhase struct {
	instantBackend
	phase deploy.BackendPhase
}

func (b inPhase) State() deploy.BackendState { return deploy.BackendState{Phase: b.phase} }

func (b inPhase) Update(s *deploy.Snapshot) map[string]http.RoundTripper {
	all := map[string]http.RoundTripper{}
	for i := range s.Scripts {
		for _, v := range s.Scripts[i].Versions {
			all[v.ID] = b
		}
	}
	return all
}

// startsGateway serves a script of each account with one Worker, whose processes are in a phase.
func startsGateway(t *testing.T, phase deploy.BackendPhase, deployed bool, accounts ...string) *Gateway {
	t.Helper()
	s := &deploy.Snapshot{Revision: 1}
	for _, account := range accounts {
		sc := deploy.SnapshotScript{AccountID: account, Subdomain: account, Name: "shop", Versions: []deploy.SnapshotVersion{{ID: testVersion, Worker: &deploy.SnapshotWorker{}}}}
		sc.Versions[0].ID = account + testVersion[len(account):]
		if deployed {
			sc.DeploymentID, sc.Splits = "d", []deploy.Split{{VersionID: sc.Versions[0].ID, Percentage: deploy.Full}}
		}
		s.Scripts = append(s.Scripts, sc)
	}
	g, err := New(DefaultConfig(), Deps{Snapshots: instantBackend{}, Backends: inPhase{phase: phase}, Emitter: instantBackend{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.end()
		if err := g.stopObserving(); err != nil {
			t.Error(err)
		}
	})
	if err := g.accept(s); err != nil {
		t.Fatal(err)
	}
	return g
}

// The story: requests for one account's Worker that did not come up took all places of those
// that wait for a start, and everybody else's were refused at once.
func TestStartsOfAccountsDoNotWaitForEachOther(t *testing.T) {
	g := startsGateway(t, deploy.BackendStarting, true, "aaaaaaaa", "bbbbbbbb")
	g.starts.max = 1
	pick := func(ctx context.Context, account string) error {
		_, err := g.pick(ctx, g.table.Load().script(scriptKey{account, "shop"}), facts{})
		return err
	}
	ctx, leave := context.WithCancel(t.Context())
	first := make(chan error)
	go func() { first <- pick(ctx, "aaaaaaaa") }()
	for g.metrics.startWaiting.Load() == 0 {
		select {
		case err := <-first:
			t.Fatalf("the first request did not wait: %v", err)
		default:
		}
	}
	if err := pick(t.Context(), "aaaaaaaa"); !errors.Is(err, errStarting) {
		t.Errorf("a request beyond the account's bound: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := pick(gone, "bbbbbbbb"); !errors.Is(err, context.Canceled) {
		t.Errorf("another account's request did not wait: %v", err)
	}
	leave()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first request: %v", err)
	}
	if len(g.starts.underWay) != 0 || g.metrics.startWaiting.Load() != 0 {
		t.Errorf("places are still taken: %v", g.starts.underWay)
	}
}

// A preview's request waits for a process that does not run, too.
func TestPreviewsThatStartAreBounded(t *testing.T) {
	for phase, bounded := range map[deploy.BackendPhase]bool{deploy.BackendIdle: true, deploy.BackendStarting: true, deploy.BackendReady: false} {
		g := startsGateway(t, phase, false, "aaaaaaaa")
		f := func(most, want int) {
			t.Helper()
			g.starts.max = most
			w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
			r.Host = "aaaaaaaa-shop.aaaaaaaa.localhost"
			if g.ServeHTTP(w, r); w.Code != want {
				t.Errorf("%s, a bound of %d: got %d %q, want %d", phase, most, w.Code, w.Body, want)
			}
		}
		f(1, http.StatusOK)
		f(1, http.StatusOK) // the place was given back
		if bounded {
			f(0, http.StatusServiceUnavailable)
		} else {
			f(0, http.StatusOK)
		}
	}
}
