package verify

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"tidegate/pipeline/ingest"
	"tidegate/pipeline/stream"
)

// A system that is in use must not look wrong: blocks are being stored while it is
// looked at, events of the last minutes come late, and ingest is restarted.
func TestNoFalseAlarmWhileIngestRuns(t *testing.T) {
	s := newSystem(t, 3, nil)
	// The first event will be lost. No later one is of its second, where it would hide what the rollups
	// count too much; the one behind it is older, so that they are compared from there on.
	lost := time.Now().Add(-2 * time.Hour)
	s.produce(0, time.Now(), s.event(lost), s.event(lost.Add(-time.Minute)))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		dice := rand.New(rand.NewPCG(1, 2)) // #nosec G404 -- repeatable on purpose
		for ctx.Err() == nil {
			now := time.Now()
			values := make([][]byte, 1+dice.IntN(40))
			for i := range values {
				values[i] = s.event(now.Add(-time.Duration(dice.IntN(3600)) * time.Second))
				if dice.IntN(100) == 0 {
					values[i] = []byte("poison")
				}
			}
			if err := s.send(dice.IntN(3), now, values...); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			_ = stream.Sleep(ctx, 15*time.Millisecond) // or ingest would only fall behind
		}
	})
	defer running.Wait()
	defer cancel()
	small := func(c *ingest.Config) { c.RowsMax = 100 }
	stop := s.ingest(small)
	s.eventually("something is stored", func() error { _, err := s.reader.Commits(ctx, group); return err })
	exact, rows := 0, uint64(0)
	for round := 0; exact < 9 && round < 40; round++ {
		if round%4 == 3 {
			stop()
			stop = s.ingest(small)
		}
		r := s.verify(nil)
		if r.Verdict == Unknown {
			continue // the first block is not committed yet, or one takes long on a busy machine
		}
		if r.Verdict != Exact {
			t.Fatalf("round %d: %s\n%+v", round, summary(r), r)
		}
		exact++
		for _, p := range r.Partitions {
			rows = max(rows, p.Rows)
		}
	}
	// A fault is seen all the same.
	s.must("ALTER TABLE trace_events DELETE" + where + "= (SELECT min(kafka_offset) FROM trace_events WHERE kafka_partition = 0)")
	r := s.verify(nil)
	for deadline := time.Now().Add(5 * time.Minute); r.Rollups[0].Verdict == Unknown && time.Now().Before(deadline); {
		r = s.verify(nil) // as it asks for where ingest takes long to complete a block
	}
	if r.Verdict != Different || r.Partitions[0].Missing != 1 || r.Partitions[1].Verdict != Exact || r.Rollups[0].Different != 1 {
		t.Errorf("a row is missing while ingest runs: %s\n%+v", summary(r), r)
	}
	cancel()
	running.Wait()
	stop()
	s.stored()
	r = s.verify(nil)
	if r.Partitions[0].Missing != 1 || r.Partitions[1].Verdict != Exact || r.Partitions[2].Verdict != Exact {
		t.Errorf("when nothing moves any more: %s\n%+v", summary(r), r)
	}
	if exact < 9 || rows < 100 {
		t.Errorf("%d rounds had something to compare, %d rows of a partition at most", exact, rows)
	}
	t.Logf("%d rounds, %d events; the last: %+v", exact, s.events, r.Partitions)
}
