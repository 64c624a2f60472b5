package clickhouse

import (
	"slices"
	"testing"
	"time"
)

func TestInspect(t *testing.T) {
	db := open(t)
	i, err := db.Inspect(t.Context())
	if err != nil || i.Missing == 0 || i.Unknown != 0 || i.Version == "" || i.Skew.Abs() > i.Within+time.Minute {
		t.Fatalf("before the migrations: %+v, %v", i, err)
	}
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if i, err = db.Inspect(t.Context()); err != nil || i.Missing != 0 || i.Unknown != 0 || len(i.Forgetful) != 0 {
		t.Fatalf("after the migrations: %+v, %v", i, err)
	}
	for _, statement := range []string{
		"INSERT INTO schema_migrations VALUES (999, 'later', now64(3))",
		"ALTER TABLE trace_events RESET SETTING non_replicated_deduplication_window",
	} {
		if err := db.conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if i, err = db.Inspect(t.Context()); err != nil || i.Unknown != 1 || !slices.Equal(i.Forgetful, []string{"trace_events"}) {
		t.Errorf("with faults: %+v, %v", i, err)
	}
}
