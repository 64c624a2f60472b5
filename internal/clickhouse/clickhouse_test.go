package clickhouse

import (
	"context"
	"errors"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"tidegate/internal/errs"
	"tidegate/schema"
)

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	f := func(change func(*Config), want string) {
		t.Helper()
		cfg := DefaultConfig("http://operator:secret@127.0.0.1:8123")
		change(&cfg)
		db, err := Open(cfg)
		if err == nil {
			_ = db.Close() // nothing was opened that a test could lose
			t.Fatalf("opened, want an error with %q", want)
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("error is %q, want one with %q and without the password", err, want)
		}
	}
	f(func(c *Config) { c.Addr = "operator:secret@127.0.0.1:9000" }, "must begin with http:// or https://")
	f(func(c *Config) { c.Addr = "clickhouse://operator:secret@127.0.0.1:9000" }, "must begin with http:// or https://")
	f(func(c *Config) { c.Addr = "http://operator:secret@:80:80/%zz" }, "open ClickHouse at http://***@:80:80/%zz")
	f(func(c *Config) { c.Database = "a`; DROP" }, "the database is \"a`; DROP\"")
	f(func(c *Config) { c.Cluster = "a`b" }, "the cluster is \"a`b\"")
	f(func(c *Config) { c.Retention.EventDays = -1 }, "the retention of trace_events is -1: it must be from 1 to 18250 days")
	f(func(c *Config) { c.Retention.QuarantineDays = 36501 }, "the retention of trace_events_quarantine is 36501")
}

func TestOpenTakesTheDatabaseFromTheAddress(t *testing.T) {
	f := func(addr, database, want string) {
		t.Helper()
		cfg := DefaultConfig(addr)
		cfg.Database = database
		if got := openWith(t, cfg).cfg.Database; got != want {
			t.Errorf("database of %q and %q is %q, want %q", addr, database, got, want)
		}
	}
	f("http://127.0.0.1:8123", "", "tidegate")
	f("http://127.0.0.1:8123/", "", "tidegate")
	f("http://127.0.0.1:8123/events", "", "events")
	f("http://127.0.0.1:8123/events", "other", "other")
}

func TestPingBeforeTheDatabaseExists(t *testing.T) {
	if err := open(t).Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// A server that is away must be told from one that refuses: ingest waits for
// both, but the controller and the operator read the difference.
func TestServerAwayIsUnavailable(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	db := openWith(t, DefaultConfig("http://"+addr))
	for name, err := range map[string]error{
		"Ping":         db.Ping(t.Context()),
		"InsertEvents": db.InsertEvents(t.Context(), "t", blockOf(served(0))),
		"RatesBetween": func() error {
			_, err := db.RatesBetween(t.Context(), account, script, noon, noon.Add(time.Minute))
			return err
		}(),
		"Migrate": db.Migrate(t.Context()),
	} {
		if errs.KindOf(err) != errs.Unavailable {
			t.Errorf("%s: kind of %v is %q, want unavailable", name, err, errs.KindOf(err))
		}
	}
}

func TestRefusalIsNotUnavailable(t *testing.T) {
	db := open(t) // without tables
	err := db.InsertEvents(t.Context(), "t", blockOf(served(0)))
	if err == nil || errs.KindOf(err) == errs.Unavailable {
		t.Errorf("insert without tables: %v, want an error that is not unavailable", err)
	}
}

func TestFailedSortsErrors(t *testing.T) {
	f := func(err error, want errs.Kind) {
		t.Helper()
		got := failed("try", err)
		if errs.KindOf(got) != want || !errors.Is(got, err) {
			t.Errorf("failed(%v) = %v of kind %q, want kind %q around it", err, got, errs.KindOf(got), want)
		}
	}
	f(&ch.Exception{Code: 241}, errs.Unavailable)
	f(&ch.HTTPError{StatusCode: 500, Err: &ch.Exception{Code: 252}}, errs.Unavailable)
	f(&ch.Exception{Code: 60}, errs.Internal)
	f(&ch.HTTPError{StatusCode: 502, Err: errors.New("a proxy's page")}, errs.Unavailable)
	f(context.DeadlineExceeded, errs.Unavailable)
	if failed("try", nil) != nil {
		t.Error("failed(nil) is not nil")
	}
}

// The views carry schema's rule in SQL; this holds the two together.
func TestRollupsFollowTheFailureRule(t *testing.T) {
	outcomes := []string{"ok", "canceled", "exception", "internalError", "somethingNew"}
	statuses := []uint16{0, 101, 200, 302, 404, 499, 500, 503, 999}
	decisions := []string{schema.DecisionSplit, schema.DecisionAffinity, schema.DecisionOnly,
		schema.DecisionOverride, schema.DecisionPreview, schema.DecisionObject, ""}
	db := migrated(t)
	want := schema.VersionRate{AccountID: account, ScriptName: script, VersionID: v1, Time: noon}
	var rows []row
	for _, outcome := range outcomes {
		for _, status := range statuses {
			for i, decision := range decisions {
				r := served(0)
				r.outcome, r.status, r.decision = outcome, status, decision
				rows = append(rows, r)
				bad := schema.Failed(outcome, int(status))
				drawn := i < 3
				want.Requests++
				want.Failures += one(bad)
				want.Assigned += one(drawn)
				want.AssignedFailures += one(drawn && bad)
				want.Exceptions += one(outcome != schema.OutcomeOK && outcome != schema.OutcomeCanceled)
				want.Status2xx += one(status/100 == 2)
				want.Status3xx += one(status/100 == 3)
				want.Status4xx += one(status/100 == 4)
				want.Status5xx += one(status >= 500)
				want.NoStatus += one(status == 0)
			}
		}
	}
	insert(t, db, "rule", rows...)
	wantCounts(t, db, want.Requests)
	for _, r := range rollups {
		whole := piece{r, floorTo(noon, r.Seconds), ceilTo(noon.Add(time.Second), r.Seconds)}
		got, err := db.rates(t.Context(), ratesQuery{account: account, script: script, pieces: []piece{whole}})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 {
			t.Fatalf("%s: %d rows, want 1", r.Table, len(got))
		}
		got[0].WallMs = nil
		if !reflect.DeepEqual(got[0], want) {
			t.Errorf("%s: got  %+v\nwant %+v", r.Table, got[0], want)
		}
		for i, outcome := range outcomes {
			if n := scalar(t, db, "SELECT sumMap(outcomes)['"+outcome+"'] FROM "+r.Table); n != "63" {
				t.Errorf("%s: outcome %d, %s, counted %s times, want 63", r.Table, i, outcome, n)
			}
		}
	}
}

func one(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}
