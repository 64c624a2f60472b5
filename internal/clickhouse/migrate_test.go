package clickhouse

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/clickhouse/clickhousetest"
)

func TestMigrateTwiceAtOnce(t *testing.T) {
	db := open(t)
	other := openWith(t, db.cfg)
	var wg sync.WaitGroup
	for _, d := range []*DB{db, other, db, other} {
		wg.Go(func() {
			if err := d.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	insert(t, db, "after", repeat(5, served(0))...)
	wantCounts(t, db, 5)
	if got := scalar(t, db, "SELECT arrayStringConcat(arraySort(groupUniqArray(name)), ' ') FROM schema_migrations"); got !=
		"001_trace_events.sql 002_trace_events_quarantine.sql 003_version_rates.sql 004_sampled_out.sql 005_replay.sql 007_codecs.sql 008_retention.sql 009_questions.sql 010_rays.sql 011_deletion.sql 012_inserted_in_time.sql 013_assigned_rates.sql 014_callers.sql" {
		t.Errorf("recorded migrations are %q", got)
	}
}

func TestMigrateKeepsDataAndRecordsOnce(t *testing.T) {
	db := migrated(t)
	insert(t, db, "before", repeat(7, served(0))...)
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCounts(t, db, 7)
	if got := scalar(t, db, "SELECT count() - uniqExact(number) FROM schema_migrations"); got != "0" {
		t.Errorf("%s migrations are recorded again", got)
	}
}

// A process that dies between two statements leaves a migration half applied and
// not recorded.
func TestMigrateCompletesAHalfAppliedMigration(t *testing.T) {
	db := migrated(t)
	for _, statement := range []string{
		"DROP VIEW version_rates_1h_view SYNC", "DROP TABLE version_rates_1h SYNC",
		"ALTER TABLE schema_migrations DELETE WHERE number = 3 SETTINGS mutations_sync = 2",
	} {
		if err := db.conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	insert(t, db, "after", repeat(3, served(0))...)
	wantCounts(t, db, 3)
}

func TestMigrateFollowsRetention(t *testing.T) {
	db := migrated(t)
	f := func(r Retention) {
		t.Helper()
		cfg := db.cfg
		cfg.Retention = r
		changed := openWith(t, cfg)
		if err := changed.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		for table, want := range map[string]int{
			"trace_events": r.EventDays, "trace_events_quarantine": r.QuarantineDays,
			"version_rates_1s": r.SecondRateDays, "version_rates_1m": r.MinuteRateDays, "version_rates_1h": r.HourRateDays,
			"assigned_rates_1s": r.SecondRateDays,
		} {
			got, err := db.retentionDays(t.Context(), table)
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("%s keeps %d days, want %d", table, got, want)
			}
		}
	}
	f(DefaultConfig("").Retention)
	f(Retention{EventDays: 3, QuarantineDays: 4, SecondRateDays: 2, MinuteRateDays: 40, HourRateDays: 0})
	f(Retention{})
	f(Retention{EventDays: 1, QuarantineDays: 1, SecondRateDays: 1, MinuteRateDays: 1, HourRateDays: 1})
}

// Most tests have tables that no migration made.
func TestTablesOfTestsAreThoseOfMigrations(t *testing.T) {
	var tables clickhousetest.Tables
	var all [2]string
	for i, migrations := range []int{1, 0} {
		db, called := open(t), 0
		err := tables.Make(t.Context(), serverAddr(t), db.cfg.Database, func() error { called++; return db.Migrate(t.Context()) })
		if err != nil {
			t.Fatal(err)
		}
		if called != migrations {
			t.Errorf("database %d: migrated %d times, want %d", i, called, migrations)
		}
		all[i] = scalar(t, db, "SELECT arrayStringConcat(arraySort(groupArray(create_table_query)), '\n') FROM system.tables WHERE database = currentDatabase()") +
			scalar(t, db, "SELECT arraySort(groupArray((number, name))) FROM schema_migrations")
		all[i] = strings.ReplaceAll(all[i], db.cfg.Database, "database")
	}
	if diff := cmp.Diff(strings.Split(all[0], "\n"), strings.Split(all[1], "\n")); diff != "" || !strings.Contains(all[0], "assigned_rates_1s_others_view") {
		t.Errorf("(-migrated +made)\n%s", diff)
	}
}
