package ingest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"tidegate/internal/errs"
	"tidegate/pipeline/stream"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

// of returns a good record of a script and an account.
func of(account, script string, offset int64) stream.Record {
	r := good(offset)
	r.Account = account
	e := schema.TraceEvent{EventTimestampMs: r.Time.UnixMilli(), Outcome: schema.OutcomeOK, ScriptName: script}
	r.Value = e.AppendJSON(nil)
	return r
}

func TestDeletedEventsLeaveTheirOffsetsOnly(t *testing.T) {
	broken := func(account, value string, offset int64) stream.Record {
		r := good(offset)
		r.Account, r.Value = account, []byte(value)
		return r
	}
	records := []stream.Record{
		of("a", "shop", 0), of("a", "cart", 1), of("b", "shop", 2), of("c", "any", 3),
		broken("a", `{"ScriptName":"shop",`, 4), broken("a", `{"ScriptName":"shopping",`, 5), broken("b", `{"ScriptName":"shop",`, 6), broken("c", `{`, 7),
		of("a", "shop", 8), of("c", "any", 9), broken("c", `{`, 9),
	}
	b := block{tombstones: schema.NewTombstones([]schema.Tombstone{
		{AccountID: "a", Script: "shop", Before: noon.Add(8 * time.Millisecond)}, {AccountID: "a", Script: "shop", Before: noon}, {AccountID: "c", Before: noon.Add(9 * time.Millisecond)},
	})}
	for range 2 { // the memory of a block is used again
		decodeBlock(&b, 3, records)
		if want := []int64{1, 2, 8, 9}; !slices.Equal(b.events.KafkaOffset, want) {
			t.Errorf("stored are %v, want %v", b.events.KafkaOffset, want)
		}
		for i, offset := range b.deleted.KafkaOffset {
			q := &b.deleted
			if q.Reason[i] != tables.ReasonDeleted || q.AccountID[i] != "" || q.Value[i] != "" || q.Detail[i] != "" || q.ValueBytes[i] != 0 || q.KafkaPartition[i] != 3 || !q.KafkaTime[i].Equal(noon.Truncate(24*time.Hour)) {
				t.Errorf("of offset %d more is left than that", offset)
			}
		}
		if want := []int64{0, 3, 4, 7}; !slices.Equal(b.deleted.KafkaOffset, want) {
			t.Errorf("dropped are %v, want %v", b.deleted.KafkaOffset, want)
		}
		if want := []int64{5, 6, 9}; !slices.Equal(b.quarantine.KafkaOffset, want) {
			t.Errorf("quarantined are %v, want %v", b.quarantine.KafkaOffset, want)
		}
	}
}

// A block waits as long as nobody knows what is deleted, and then leaves it out.
func TestBlocksWaitForTheTombstones(t *testing.T) {
	w := &fakeWriter{away: errs.New(errs.Unavailable, 0, "away")}
	f := newFake(0, 5)
	in := newIngest(t, w, nil)
	stop := start(t, in, f)
	eventually(t, "the block is planned", func() bool {
		_, metadata, _ := f.Committed()
		m, err := parseMark(metadata)
		return err == nil && m.plan != (plan{})
	})
	if got := w.offsets(); got != nil {
		t.Fatalf("stored are %v before anybody knew what is deleted", got)
	}
	w.mu.Lock()
	w.away, w.tombstones = nil, []schema.Tombstone{{AccountID: testAccount, Script: "shop", Before: noon.Add(3 * time.Millisecond)}}
	w.mu.Unlock()
	eventually(t, "the block is settled", func() bool { return f.settledAt(5) })
	if got := w.offsets(); !slices.Equal(got, seq(3, 5)) {
		t.Errorf("stored are %v, want 3 and 4", got)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.quarant, seq(0, 3)) {
		t.Errorf("the quarantine has %v, want 0 to 2", w.quarant)
	}
	if err := stop(); err != nil && !errors.Is(err, stream.ErrFenced) {
		t.Error(err)
	}
}

// A reader stored the quarantine of a block and died; then its events were deleted.
func TestOffsetsThatAreDeletedBetweenAttemptsAreNoted(t *testing.T) {
	refuse := true
	w := &fakeWriter{onInsert: func(context.Context, string) error {
		if refuse {
			return errs.New(errs.Unavailable, 0, "away")
		}
		return nil
	}}
	f := newFake(0, 5)
	f.records[2].Value = []byte("poison")
	stop := start(t, newIngest(t, w, nil), f)
	eventually(t, "the quarantine is stored", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.quarant) == 1
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	refuse, w.tombstones = false, []schema.Tombstone{{AccountID: testAccount, Script: "shop", Before: noon.Add(time.Hour)}}
	start(t, newIngest(t, w, nil), f)
	eventually(t, "the block is settled", func() bool { return f.settledAt(5) })
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.Sort(w.quarant); !slices.Equal(w.quarant, seq(0, 5)) {
		t.Errorf("accounted for are %v, want 0 to 4", w.quarant)
	}
}
