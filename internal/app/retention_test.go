package app

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"tidegate/internal/seal"
	"tidegate/internal/store"
	"tidegate/schema/control"
)

func TestRetentionOfHistoryIsAFlagOfTheAPI(t *testing.T) {
	read := func(flags ...string) (APIConfig, error) {
		t.Helper()
		c := DefaultConfig(JobsAPIRoles...)
		c.SecretsKeyFile = "key"
		set := pflag.NewFlagSet("", pflag.ContinueOnError)
		c.Bind(set)
		err := set.Parse(append([]string{"--database", "control.db", "--clickhouse", "http://127.0.0.1:8123"}, flags...))
		if err == nil {
			err = c.Validate()
		}
		return c.API, err
	}
	if c, err := read(); err != nil || c.AuditDays != 550 || c.DecisionDays != 550 {
		t.Errorf("the default is %+v, %v", c, err)
	}
	if c, err := read("--retention-audit-days", "0", "--retention-decisions-days", "18250"); err != nil || c.AuditDays != 0 || c.DecisionDays != 18250 {
		t.Errorf("read as %+v, %v", c, err)
	}
	_, err := read("--retention-audit-days", "-1")
	wantError(t, err, "--retention-audit-days is -1: it must be from 1 to 18250, or 0, for ever")
	_, err = read("--retention-decisions-days", "18251")
	wantError(t, err, "--retention-decisions-days is 18251")
	if _, err := parsedIngest(t, "--retention-audit-days", "7"); err == nil {
		t.Error("an ingest process took the flag")
	}
}

// sweepingProcess has a database with entries of 600 and of 500 days ago in its audit log.
func sweepingProcess(t *testing.T) (p *process, log *strings.Builder, entries func() int) {
	t.Helper()
	keys, err := seal.New()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "control.db"), store.Options{Keys: keys, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	present := now
	var accounts []control.Account
	for _, days := range []int{600, 500} {
		now = present.AddDate(0, 0, -days)
		a, err := s.CreateAccount(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		accounts = append(accounts, a)
	}
	now = present
	entries = func() (sum int) {
		t.Helper()
		for _, a := range accounts {
			_, total, err := s.AuditLog(t.Context(), a.ID, control.AuditFilter{}, 1, 0)
			if err != nil {
				t.Fatal(err)
			}
			sum += total
		}
		return sum
	}
	log = &strings.Builder{}
	config := DefaultConfig(RoleAPI)
	return &process{config: config, log: slog.New(slog.NewTextHandler(log, nil)), store: s}, log, entries
}

func TestHistoryIsSwept(t *testing.T) {
	p, log, entries := sweepingProcess(t)
	p.config.API.AuditDays = 0
	if err := p.sweepHistory(t.Context(), "a"); err != nil || entries() != 2 || log.Len() > 0 {
		t.Errorf("kept for ever, %d entries are left, error %v, log %s", entries(), err, log)
	}
	p.config.API.AuditDays = historyDays
	if err := p.sweepHistory(t.Context(), "a"); err != nil || entries() != 1 {
		t.Errorf("%d entries are left, error %v", entries(), err)
	}
	if !strings.Contains(log.String(), "table=audit_log count=1") {
		t.Errorf("the log is %s", log)
	}
	// A restore takes a lease for somebody who works on the database.
	if held, err := p.store.AcquireLease(t.Context(), historyLease, "b", time.Minute); err != nil || !held {
		t.Errorf("the lease is not given up: %v", err)
	}
}

func TestOneProcessSweeps(t *testing.T) {
	p, _, entries := sweepingProcess(t)
	if held, err := p.store.AcquireLease(t.Context(), historyLease, "b", time.Minute); err != nil || !held {
		t.Fatal(held, err)
	}
	if err := p.sweepHistory(t.Context(), "a"); err != nil || entries() != 2 {
		t.Errorf("beside another process, %d entries are left, error %v", entries(), err)
	}
	if held, err := p.store.AcquireLease(t.Context(), historyLease, "b", time.Minute); err != nil || !held {
		t.Errorf("the other one lost its lease: %v", err)
	}
}
