package clickhouse

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"tidegate/internal/errs"
	tables "tidegate/schema/clickhouse"
)

// page reads rays of a page.
func page(t *testing.T, db *DB, f tables.EventFilter) (rays []string, next string) {
	t.Helper()
	events, next, err := db.Events(t.Context(), account, script, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		rays = append(rays, e.Gateway.RayID)
	}
	return rays, next
}

func TestEventsInPages(t *testing.T) {
	db := migrated(t)
	var rows []row
	for i := range 25 {
		rows = append(rows, served(time.Duration(i/4)*time.Second)) // four at a time at the same millisecond
	}
	insert(t, db, "pages", rows...)
	var got []string
	next := ""
	for {
		rays, more := page(t, db, tables.EventFilter{Limit: 10, After: next})
		got = append(got, rays...)
		if next == "" { // an event that arrives between two pages
			late := blockOf(served(time.Hour))
			late.KafkaOffset[0], late.RayID[0] = 1000, "late"
			if err := db.InsertEvents(t.Context(), "late", late); err != nil {
				t.Fatal(err)
			}
		}
		if next = more; next == "" {
			break
		}
	}
	var want []string
	for i := 24; i >= 0; i-- {
		want = append(want, fmt.Sprintf("%016x", i))
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages hold %v, want %v", got, want)
	}
}

func TestEventsFilter(t *testing.T) {
	db := migrated(t)
	bad, away, other := served(time.Second), served(2*time.Second), served(3*time.Second)
	bad.status = 503
	away.outcome, away.status = "exception", 0
	other.version, other.status = v2, 404
	foreign := served(0)
	foreign.script = "blog"
	insert(t, db, "filter", served(0), bad, away, other, foreign)
	f := func(filter tables.EventFilter, want ...int) {
		t.Helper()
		rays, _ := page(t, db, filter)
		var names []string
		for _, i := range want {
			names = append(names, fmt.Sprintf("%016x", i))
		}
		if !slices.Equal(rays, names) {
			t.Errorf("%+v: %v, want %v", filter, rays, names)
		}
	}
	f(tables.EventFilter{}, 3, 2, 1, 0)
	f(tables.EventFilter{VersionID: v2}, 3)
	f(tables.EventFilter{Outcome: "exception"}, 2)
	f(tables.EventFilter{FailedOnly: true}, 2, 1)
	f(tables.EventFilter{RayID: "0000000000000001"}, 1)
	f(tables.EventFilter{StatusMin: 400}, 3, 1)
	f(tables.EventFilter{StatusMax: 404}, 3, 0)
	f(tables.EventFilter{StatusMin: 300, StatusMax: 499}, 3)
	f(tables.EventFilter{Since: noon.Add(2 * time.Second)}, 3, 2)
	f(tables.EventFilter{Until: noon.Add(2 * time.Second)}, 1, 0)
	f(tables.EventFilter{Since: noon.Add(time.Second), Until: noon.Add(2 * time.Second)}, 1)
	f(tables.EventFilter{VersionID: "' OR 1=1 --"})
}

func TestEventsRefuses(t *testing.T) {
	db := migrated(t)
	for _, f := range []tables.EventFilter{{Limit: -1}, {Limit: tables.EventsMax + 1}, {After: "x"}, {After: "1.2.3 "}, {After: "1.2"}} {
		if _, _, err := db.Events(t.Context(), account, script, f); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%+v: %v, want an error of kind invalid", f, err)
		}
	}
}
