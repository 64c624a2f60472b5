package clickhouse

import (
	"testing"
	"time"
)

func TestNewestEvent(t *testing.T) {
	db := migrated(t)
	if at, err := db.NewestEvent(t.Context()); err != nil || !at.IsZero() {
		t.Fatalf("of an empty table: %s, error %v", at, err)
	}
	recorded(t, db, 3)
	var want time.Time
	if err := db.conn.QueryRow(t.Context(), `SELECT max(time) FROM version_rates_1s WHERE requests > 0`).Scan(&want); err != nil {
		t.Fatal(err)
	}
	if at, err := db.NewestEvent(t.Context()); err != nil || at.IsZero() || !at.Equal(want) {
		t.Errorf("the newest event is of %s, error %v, want %s", at, err, want)
	}
}
