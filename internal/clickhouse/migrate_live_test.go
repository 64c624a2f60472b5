package clickhouse

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Processes of the version before go on inserting, repeats included, while two of the
// new version migrate: each event is counted once in each table.
func TestMigrateUnderLoadKeepsCountsExact(t *testing.T) {
	db := open(t)
	l := layout{db.cfg.Database, db.cfg.Cluster}
	if err := db.define(t.Context(), db.root.Exec, "CREATE DATABASE IF NOT EXISTS "+l.database); err != nil {
		t.Fatal(err)
	}
	for _, statement := range l.history() {
		if err := db.define(t.Context(), db.conn.Exec, statement); err != nil {
			t.Fatal(err)
		}
	}
	for number, name := range []string{"001_trace_events.sql", "002_trace_events_quarantine.sql", "003_version_rates.sql", "004_sampled_out.sql", "005_replay.sql"} {
		if err := db.apply(t.Context(), l, uint32(number+1), name); err != nil { // #nosec G115 -- five of them
			t.Fatal(err)
		}
	}
	if err := db.apply(t.Context(), l, callersMigration, "014_callers.sql"); err != nil {
		t.Fatal(err)
	}
	insert(t, db, "long before", repeat(1000, served(0))...)
	var events atomic.Int64
	events.Store(1000)
	var migrated atomic.Bool
	var writers, migrators sync.WaitGroup
	for w := range 2 {
		writers.Go(func() {
			for i, more := 0, 5; more > 0; i++ {
				if migrated.Load() {
					more-- // a few blocks on the new tables, too
				}
				rows := repeat(7, served(time.Duration(i)*time.Millisecond))
				token := fmt.Sprintf("live-%d-%d", w, i)
				for range 2 { // the second time is a repeat
					if err := db.InsertEvents(t.Context(), token, blockOf(rows...)); err != nil {
						t.Error(err)
						return
					}
				}
				events.Add(7)
			}
		})
	}
	for _, d := range []*DB{openWith(t, db.cfg), openWith(t, db.cfg)} {
		migrators.Go(func() {
			if err := d.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	migrators.Wait()
	migrated.Store(true)
	writers.Wait()
	wantCounts(t, db, events.Load())
	if got := scalar(t, db, "SELECT count() FROM system.columns WHERE database = currentDatabase() AND table = 'trace_events' AND name = 'wall_ms' AND compression_codec = 'CODEC(T64, ZSTD(1))'"); got != "1" {
		t.Error("the new codecs are not there")
	}
	// A block from before the migration is still recognised.
	insert(t, db, "long before", repeat(1000, served(0))...)
	wantCounts(t, db, events.Load())
}
