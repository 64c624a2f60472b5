package store

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/deploy"
)

// Of many routers one gets a run, and every run can be had.
func TestOneRouterClaimsARun(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		at := clock.now()
		claim := func(script, cron string, at time.Time) bool {
			t.Helper()
			claimed, err := s.ClaimCron(t.Context(), testAccount, script, cron, at)
			if err != nil {
				t.Error(err)
			}
			return claimed
		}
		var winners atomic.Int64
		var routers sync.WaitGroup
		for range 8 {
			routers.Go(func() {
				if claim("shop", "* * * * *", at) {
					winners.Add(1)
				}
			})
		}
		routers.Wait()
		if n := winners.Load(); n != 1 {
			t.Errorf("%d routers got the run", n)
		}
		if !claim("shop", "*/2 * * * *", at) || !claim("blog", "* * * * *", at) || !claim("shop", "* * * * *", at.Add(time.Minute)) {
			t.Error("another schedule, script or minute is taken, too")
		}
		clock.add(cronRunsKept + 2*time.Minute)
		if claim("shop", "* * * * *", at) {
			t.Error("a run that is forgotten was given away again")
		}
		claim("shop", "0 0 * * *", clock.now())
		var left int
		if err := s.reader.QueryRowContext(t.Context(), `SELECT count(*) FROM cron_runs`).Scan(&left); err != nil || left != 1 {
			t.Errorf("%d runs are remembered, %v", left, err)
		}
	})
}

func TestReportsOfVersions(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		version := mustVersion(t, s, "shop").ID
		report := func(versionID, router string, phase deploy.BackendPhase, text string, at time.Time) deploy.VersionReport {
			return deploy.VersionReport{AccountID: testAccount, Script: "shop", VersionID: versionID, RouterID: router, Phase: phase, Error: text, At: at}
		}
		now := clock.now()
		other := report(version, "r1", deploy.BackendFailed, "no", now)
		other.AccountID = "another account"
		err := s.SaveReports(t.Context(), []deploy.VersionReport{
			report(version, "r1", deploy.BackendFailed, "SyntaxError", now),
			report(version, "r2", deploy.BackendFailed, "SyntaxError", now.Add(time.Second)),
			report("no-such-version", "r1", deploy.BackendFailed, "no", now), other,
		})
		if err != nil {
			t.Fatal(err)
		}
		// The newest word counts, in whatever order it comes.
		if err := s.SaveReports(t.Context(), []deploy.VersionReport{
			report(version, "r1", deploy.BackendReady, "", now.Add(time.Minute)),
			report(version, "r2", deploy.BackendReady, "", now),
		}); err != nil {
			t.Fatal(err)
		}
		got, err := s.Reports(t.Context(), testAccount, "shop")
		if err != nil || len(got) != 2 {
			t.Fatalf("reports %+v, %v", got, err)
		}
		want := []deploy.VersionReport{
			report(version, "r1", deploy.BackendReady, "", now.Add(time.Minute)),
			report(version, "r2", deploy.BackendFailed, "SyntaxError", now.Add(time.Second)),
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("report %d is %+v, want %+v", i, got[i], want[i])
			}
		}
		// The clock of a router was an hour ahead, and what it said then held for that long.
		if err := s.SaveReports(t.Context(), []deploy.VersionReport{report(version, "r1", deploy.BackendFailed, "SyntaxError", now.Add(time.Hour))}); err != nil {
			t.Fatal(err)
		}
		mended := report(version, "r1", deploy.BackendReady, "", now.Add(2*time.Minute))
		if err := s.SaveReports(t.Context(), []deploy.VersionReport{mended}); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Reports(t.Context(), testAccount, "shop"); err != nil || len(got) != 2 || got[0] != mended {
			t.Errorf("reports %+v, want %+v first, error %v", got, mended, err)
		}
		if err := s.DeleteScript(t.Context(), testAccount, "shop", false); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Reports(t.Context(), testAccount, "shop"); err != nil || len(got) != 0 {
			t.Errorf("after the script: %+v, %v", got, err)
		}
	})
}
