package logpush

import (
	"context"
	"errors"
	"testing"
	"time"

	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// deletions is a fixed list, or an error.
type deletions struct {
	list []schema.Tombstone
	err  error
}

func (d deletions) Tombstones(context.Context) ([]schema.Tombstone, error) { return d.list, d.err }

// at is the record of an event at a time.
func at(script string, t time.Time) *stream.Record {
	e := schema.TraceEvent{ScriptName: script, EventTimestampMs: t.UnixMilli(), Outcome: "ok"}
	return &stream.Record{Account: account, Time: t, Value: e.AppendJSON(nil)}
}

func TestDeletedEventsAreCovered(t *testing.T) {
	noon := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	d := &deleted{from: deletions{list: []schema.Tombstone{{AccountID: account, Script: "shop", Before: noon}}}}
	f := func(r *stream.Record, want bool) {
		t.Helper()
		var a arena
		a.splitAll([]stream.Record{*r})
		if got := d.covers(r, &a.entries[0].event, a.entries[0].malformed); got != want {
			t.Errorf("%s of %s: %v, want %v", r.Value, r.Time, got, want)
		}
	}
	early, late := noon.Add(-time.Millisecond), noon
	f(at("shop", early), false) // nobody has asked yet
	if err := d.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	f(at("shop", early), true)
	f(at("shop", late), false)
	f(at("cart", early), false)
	other := at("shop", early)
	other.Account = "other"
	f(other, false)
	spooled := at("shop", early) // the record is newer than its event
	spooled.Time = noon.Add(time.Hour)
	f(spooled, true)
	wrong := at("shop", early.AddDate(-1, 0, 0)) // its clock is not believed
	wrong.Time = late
	f(wrong, false)
	f(&stream.Record{Account: account, Time: early, Value: []byte(`{"ScriptName":"shop"`)}, true)
	f(&stream.Record{Account: account, Time: early, Value: []byte(`{"ScriptName":"cart"`)}, false)

	d.from = deletions{err: errors.New("away")}
	if err := d.refresh(t.Context()); err == nil {
		t.Error("nobody hears that it could not be read")
	}
	f(at("shop", early), true) // what was known stays
	var none *deleted
	if none.covers(at("shop", early), nil, true) {
		t.Error("nothing is deleted, and covers an event")
	}
}

func TestDeletedEventsAreNotDelivered(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		now := time.Now()
		for i := range 5 {
			w.memory.append(account, event("ok", i), now) // their own time is not believed
		}
		for i := range 5 {
			w.memory.append(account, event("ok", 5+i), now.Add(time.Second))
		}
		w.deletions = []schema.Tombstone{{AccountID: account, Script: "shop", Before: now.Add(time.Second)}}
		r := w.start()
		pass(time.Second)
		r.stop()
		w.expect(t, lines(5, 10), 1)
		if w.memory.offset() != 10 {
			t.Errorf("committed %d, want 10", w.memory.offset())
		}
		for _, known := range []deletions{{list: w.deletions}, {err: errors.New("away")}} {
			got, err := NewPreviews(w.sinks(), oneTopic{w.memory}, known).Preview(t.Context(), w.job, nil, 100)
			if (err == nil) != (known.err == nil) || err == nil && (got.Sent != 5 || got.Dropped.Deleted != 5 || got.LookedAt != 10) {
				t.Errorf("a preview shows %+v, error %v", got, err)
			}
		}
	})
}
