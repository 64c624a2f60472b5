// Package backtest replays a policy over rows of a real engine and deployments of a real
// store.
package backtest

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"tidegate/internal/clickhouse"
	"tidegate/internal/deploy"
	"tidegate/internal/embedded"
	"tidegate/internal/rollback"
	"tidegate/internal/store"
	"tidegate/internal/store/storetest"
	"tidegate/schema/control"
)

// externalServer names a ClickHouse to run on instead of the embedded engine.
const externalServer = "TIDEGATE_TEST_CLICKHOUSE"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "engine-child" {
		os.Exit(embedded.RunEngineChild(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func serverAddr(t *testing.T) string {
	t.Helper()
	if addr := os.Getenv(externalServer); addr != "" {
		return addr
	}
	engine, err := embedded.StartEngine(t.Context(), embedded.EngineConfig{
		Addr: "127.0.0.1:0", DataDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return "http://" + engine.Addr()
}

// system is a script in a store, whose traffic was 100 requests/s.
type system struct {
	t        *testing.T
	store    *store.Store
	db       *clickhouse.DB
	now      time.Time // of the store
	server   string
	database string
}

func newSystem(t *testing.T) *system {
	s := &system{t: t, server: serverAddr(t), database: fmt.Sprintf("backtest_%d", time.Now().UnixNano())}
	cfg := clickhouse.DefaultConfig(s.server)
	cfg.Database = s.database
	var err error
	if s.db, err = clickhouse.Open(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.exec("DROP DATABASE IF EXISTS " + s.database + " SYNC")
		if err := s.db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.store = storetest.New(t, store.Options{Now: func() time.Time { return s.now }})
	if _, err := s.store.Bootstrap(t.Context(), control.Account{}, func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *system) exec(statement string) {
	s.t.Helper()
	res, err := http.Post(s.server+"/?"+url.Values{"database": {s.database}, "async_insert": {"0"}}.Encode(), "text/plain", strings.NewReader(statement))
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s, error %v", statement, body, err)
	}
}

func (s *system) version() string {
	s.t.Helper()
	v, err := s.store.CreateVersion(s.t.Context(), control.FirstAccountID, "shop", deploy.Version{Origin: &deploy.Origin{URL: "http://a"}})
	if err != nil {
		s.t.Fatal(err)
	}
	return v.ID
}

func (s *system) deploy(at time.Time, splits ...deploy.Split) {
	s.t.Helper()
	s.now = at
	if _, err := s.store.Deploy(s.t.Context(), control.FirstAccountID, "shop", deploy.Deployment{Strategy: "percentage", Versions: splits}, ""); err != nil {
		s.t.Fatal(err)
	}
}

// served is so many requests of a version in each second of a range; one in failing fails, from
// a time on.
func (s *system) served(version string, perSecond int, since, until time.Time, failing int, from time.Time) {
	s.t.Helper()
	s.exec(fmt.Sprintf(`INSERT INTO trace_events (account_id, script_name, version_id, time, event_type, outcome, status, decision, wall_ms)
		SELECT '%s', 'shop', '%s', fromUnixTimestamp64Milli(toInt64(%d + intDiv(number * 1000, %d)), 'UTC') AS at, 'fetch', 'ok',
			if(number %% %d = 0 AND at >= fromUnixTimestamp64Milli(toInt64(%d), 'UTC'), 500, 200), 'split', 10 FROM numbers(%d)`,
		control.FirstAccountID, version, since.UnixMilli(), perSecond, failing, from.UnixMilli(), int(until.Sub(since).Seconds())*perSecond))
}

func TestABacktestTellsBadVersionsFromGoodOnes(t *testing.T) {
	s := newSystem(t)
	began := time.Now().UTC().Add(-2 * time.Hour).Truncate(time.Second)
	s.now = began
	v1, v2, v3 := s.version(), s.version(), s.version()
	// v2 fails as often as v1, and v3 does until it breaks.
	tried, kept, next, broke, end := began.Add(5*time.Minute), began.Add(15*time.Minute), began.Add(20*time.Minute), began.Add(30*time.Minute), began.Add(35*time.Minute)
	s.deploy(began, deploy.Split{VersionID: v1, Percentage: deploy.Full})
	s.deploy(tried, deploy.Split{VersionID: v1, Percentage: 90_000}, deploy.Split{VersionID: v2, Percentage: 10_000})
	s.deploy(kept, deploy.Split{VersionID: v2, Percentage: deploy.Full})
	s.deploy(next, deploy.Split{VersionID: v2, Percentage: 90_000}, deploy.Split{VersionID: v3, Percentage: 10_000})
	const seldom = 97
	s.served(v1, 100, began, tried, seldom, began)
	s.served(v1, 90, tried, kept, seldom, began)
	s.served(v2, 10, tried, kept, seldom, began)
	s.served(v2, 100, kept, next, seldom, began)
	s.served(v2, 90, next, end, seldom, began)
	s.served(v3, 10, next, broke, seldom, began)
	s.served(v3, 10, broke, end, 1, began)

	policy := deploy.DefaultPolicy()
	policy.Complete()
	history := rollback.NewHistory(rollback.HistoryConfig{Rates: s.db, Scripts: s.store, Kept: s.db.BlocksKept(), Now: time.Now})
	reported := 0
	r, err := history.Backtest(t.Context(), deploy.BacktestQuery{AccountID: control.FirstAccountID, Script: "shop", Policy: policy, Since: began, Until: end},
		func(deploy.BacktestProgress) { reported++ })
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Trials) != 3 || !r.Since.Equal(began) || !r.Until.Equal(end) || reported < 2 {
		t.Fatalf("%d reports: %+v", reported, r)
	}
	for _, good := range r.Trials[:2] {
		if good.VersionID != v2 || good.BaselineVersionID != v1 || good.FailedAt != nil || good.FailuresSaved == nil || *good.FailuresSaved != 0 {
			t.Errorf("the good one: %+v", good)
		}
	}
	if n := r.Trials[0].Numbers; n.Requests == nil || *n.Requests != 6000 || *n.BaselineRequests != 54_000 || *n.Failures != 62 {
		t.Errorf("the good one: %+v", n)
	}
	bad := r.Trials[2]
	if bad.VersionID != v3 || bad.BaselineVersionID != v2 || bad.FailedAt == nil || !bad.FailedAt.Equal(broke.Add(time.Second)) || bad.Metric != deploy.MetricFailureRatio {
		t.Errorf("the bad one failed at %v, and broke at %v: %+v", bad.FailedAt, broke, bad)
	}
	// Five minutes less a second of 10 requests, of which the baseline fails one in 97.
	if saved, sum := bad.FailuresSaved, r.FailuresSaved; saved == nil || *saved < 2950 || *saved > 2980 || sum == nil || *sum != *saved || r.FailuresSavedUnknown != 0 || r.FalseAlarms != 0 {
		t.Errorf("it saves too many failures or too few: %+v", r)
	}

	// The present is judged by the same rows.
	saved, err := s.store.SavePolicy(t.Context(), control.FirstAccountID, "shop", policy, nil)
	if err != nil {
		t.Fatal(err)
	}
	live, err := history.Evidence(t.Context(), control.FirstAccountID, "shop")
	if err != nil || len(live.Trials) != 1 || live.PolicyRevision != saved.Revision || live.Trials[0].VersionID != v3 || live.Trials[0].BaselineVersionID != v2 || live.Enabled {
		t.Fatalf("%+v, error %v", live, err)
	}
	// The policy was saved when v3 was deployed, by the store's clock.
	if one := live.Trials[0]; one.Verdict != deploy.VerdictFail || one.Metric != deploy.MetricFailureRatio || one.Evidence[0].LogE < one.Evidence[0].Threshold || len(one.Evidence[0].Series) < 2 {
		t.Errorf("the evidence of now: %+v", one)
	}
}
