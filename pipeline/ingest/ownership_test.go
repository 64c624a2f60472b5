package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/clickhouse/clickhousetest"
	"tidegate/pipeline/stream"
	tables "tidegate/schema/clickhouse"
)

// A reader slept between its plan and its insert, for so long that later blocks had
// pushed its own out of what ClickHouse remembers. Then it woke up and inserted.
func TestExactlyOnceWithAZombieThatSleptForLongerThanClickHouseRemembers(t *testing.T) {
	addr := serverAddr(t)
	db, database := openNamed(t, addr)
	c := startKafka(t, 2)
	c.produceGood(50)
	zombie := &lateWriter{Writer: db, started: make(chan struct{}), release: make(chan struct{}), slept: time.Minute}
	stopZombie := c.run(newIngest(t, zombie, func(cfg *Config) {
		smallBlocks(cfg)
		cfg.StopGrace = 10 * time.Millisecond
	}).HandlePartition)
	<-zombie.started
	stopZombie()
	c.run(newIngest(t, db, smallBlocks).HandlePartition)
	c.wantExactly(db, 0)
	for _, table := range []string{"trace_events", "version_rates_1s", "version_rates_1m", "version_rates_1h", "assigned_rates_1s"} {
		if _, err := clickhousetest.Ask(t.Context(), addr, "ALTER TABLE "+database+"."+table+" MODIFY SETTING non_replicated_deduplication_window = 2"); err != nil {
			t.Fatal(err)
		}
	}
	c.produceGood(60)
	c.wantExactly(db, 0)
	close(zombie.release)
	zombie.late.Wait()
	if zombie.err == nil {
		t.Error("the late inserts were taken")
	}
	c.wantExactly(db, 0)
}

// Who was refused, or slept over an insert, asks the broker again whether the partition
// is still its own.
func TestEveryAttemptIsProvenAnew(t *testing.T) {
	p, w := newFake(0, 3), &fakeWriter{}
	tries := 0
	w.onInsert = func(context.Context, string) error {
		if tries++; tries < 4 {
			return errors.New("no")
		}
		return nil
	}
	begun := time.Now()
	stop := start(t, newIngest(t, w, nil), p)
	eventually(t, "all is committed", func() bool { return p.settledAt(3) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	plans := 0
	for _, commit := range p.commits {
		if strings.Contains(commit, "begin") || strings.Contains(commit, "end") {
			plans++
		}
	}
	if plans != 4 {
		t.Errorf("commits are %q, want the plan four times", p.commits)
	}
	if len(w.proven) != 1 || w.proven[0].Before(begun.Add(100*time.Millisecond)) {
		t.Errorf("the block that was taken was proven %v after the start, want after three pauses", w.proven)
	}
}

func TestReaderThatLostItsPartitionInsertsNoMore(t *testing.T) {
	p, w := newFake(0, 3), &fakeWriter{}
	var inserts atomic.Int64
	w.onInsert = func(context.Context, string) error {
		inserts.Add(1)
		return errors.New("no")
	}
	p.onCommit = func(int64, string) error {
		if inserts.Load() == 2 {
			return fmt.Errorf("commit: %w", stream.ErrFenced)
		}
		return nil
	}
	in := newIngest(t, w, nil)
	if err := in.HandlePartition(t.Context(), p); !errors.Is(err, stream.ErrFenced) {
		t.Fatalf("error is %v, want stream.ErrFenced", err)
	}
	if n := inserts.Load(); n != 2 {
		t.Errorf("%d inserts, want none after the partition was lost", n)
	}
}

// A block was refused, in part, until others had pushed what was stored of it out of
// what ClickHouse remembers; then the repeat stored that again.
func TestOthersWaitForABlockThatStaysOpen(t *testing.T) {
	p, w := newFake(0, 100).committed(0, "{}"), &fakeWriter{}
	open := newMark(plan{Begin: 7, End: 9, At: 1}, time.Time{}).String()
	p.others = map[int]string{0: newMark(plan{}, time.Time{}).String(), 1: open}
	in := newIngest(t, w, func(c *Config) {
		c.RowsMax = 1
		// Three partitions have commits and one is this process's own: the others' blocks
		// count as many as its own. Every third block has an event that stands for others,
		// and so counts twice.
		c.OpenEntriesMax = 30
	})
	stop := start(t, in, p)
	eventually(t, "it waits", func() bool {
		_, found := in.open.overdue(p.ID(), 30)
		return found
	})
	held := len(w.offsets())
	if held < 8 || held > 12 {
		t.Errorf("it waits after %d blocks, want about 8", held)
	}
	p.mu.Lock()
	p.others[1] = newMark(plan{}, time.Time{}).String()
	p.mu.Unlock()
	eventually(t, "all is committed", func() bool { return p.settledAt(100) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(w.offsets(), seq(0, 100)) {
		t.Errorf("stored offsets are %v", w.offsets())
	}
}

// Blocks were counted, and each taken for at most four entries of what ClickHouse remembers.
// Events may be days behind their records, and of each day a table remembers an entry.
func TestOthersWaitByWhatClickHouseRemembersOfTheirBlocks(t *testing.T) {
	p, w := newFake(0, 0).committed(0, "{}"), &fakeWriter{}
	for offset := range int64(100) {
		r := good(offset)
		r.Time = noon.AddDate(0, 0, -int(offset))
		p.write(r)
	}
	p.others = map[int]string{1: newMark(plan{Begin: 7, End: 9, At: 1}, time.Time{}).String()}
	in := newIngest(t, w, func(c *Config) {
		c.RowsMax = 5 // five days, of which each is remembered twice because some events stand for others
		c.OpenEntriesMax = 60
	})
	start(t, in, p)
	eventually(t, "it waits", func() bool {
		_, found := in.open.overdue(p.ID(), 60)
		return found
	})
	if held := len(w.offsets()); held < 15 || held > 25 {
		t.Errorf("it waits after %d events, want 15: three blocks of ten entries each, of twice as many of both partitions", held)
	}
}

func TestNoMoreIsSettledThanClickHouseRemembers(t *testing.T) {
	begun := time.Now()
	// most settles as much as may be of blocks of so many entries, and returns how many
	// entries that were in the longest time that a block may come late, and one that is under way.
	most := func(o *openBlocks, entries int64) (settled int64) {
		const late = time.Minute
		for now := begun; now.Before(begun.Add(late)); now = now.Add(max(time.Millisecond, o.tooFast(now))) {
			o.settle(entries, now)
			settled += entries
		}
		return settled
	}
	f := func(name string, readers, known int, entries, want int64) {
		t.Helper()
		o := &openBlocks{readers: readers, known: known}
		if got := most(o, entries); got < want-entries || got > want+entries {
			t.Errorf("%s: %d entries in a minute, want %d", name, got, want)
		}
	}
	const all = 27_000
	f("the only process", 24, 24, 1, all)
	f("blocks of many days", 24, 24, 60, all)
	f("one that knows of no commit yet", 3, 0, 1, all)
	f("a process with a third of the partitions", 8, 24, 2, all/3)
	f("a process with one partition of many", 1, 100, 1, all/100)
	if all >= tables.RememberedBlocks {
		t.Errorf("%d entries in a minute are more than ClickHouse remembers", all)
	}
}

func TestEntriesOfABlock(t *testing.T) {
	f := func(name string, want int64, change func(*block)) {
		t.Helper()
		var b block
		decodeBlock(&b, 0, []stream.Record{good(0), good(1)})
		change(&b)
		if got := b.entries(); got != want {
			t.Errorf("%s: %d entries, want %d", name, got, want)
		}
	}
	f("of one day", 1, func(*block) {})
	f("over midnight", 2, func(b *block) { b.events.Time[1] = b.events.Time[0].Add(12 * time.Hour) })
	f("with one that stands for others", 2, func(b *block) { b.events.SampledOut[1] = 1 })
	f("both", 4, func(b *block) { b.events.Time[1], b.events.SampledOut[0] = b.events.Time[0].Add(12*time.Hour), 1 })
	f("nothing", 1, func(b *block) { b.events.Reset(0) })
	f("deleted ones and such that are no events", 2, func(b *block) {
		b.quarantine.KafkaOffset, b.deleted.KafkaOffset = []int64{1}, []int64{2}
	})
}

func TestOverdue(t *testing.T) {
	mark := func(begin int64) string {
		return newMark(plan{Begin: begin, End: begin + 1, At: 1}, time.Time{}).String()
	}
	settle := func(o *openBlocks, n int) {
		for range n {
			o.settle(1, time.Now())
		}
	}
	f := func(name string, o *openBlocks, own int, want bool) {
		t.Helper()
		if partition, got := o.overdue(own, 10); got != want || (got && partition != 1) {
			t.Errorf("%s: %d, %t, want %t", name, partition, got, want)
		}
	}
	o := &openBlocks{}
	f("nothing is known", o, 0, false)
	defer o.join()()
	o.see(map[int]string{0: "{}", 1: mark(5)})
	f("just seen", o, 0, false)
	settle(o, 4)
	f("four blocks of each", o, 0, false)
	settle(o, 1)
	f("five blocks of each", o, 0, true)
	f("its own", o, 1, false)
	o.see(map[int]string{0: "{}", 1: mark(5)})
	f("seen again", o, 0, true)
	leave := o.join()
	f("of two partitions, both of this process", o, 0, false)
	leave()
	o.see(map[int]string{0: "{}", 1: mark(6)})
	f("another block", o, 0, false)
	settle(o, 9)
	o.see(map[int]string{0: "{}", 1: "{}"})
	f("settled", o, 0, false)
	o.see(map[int]string{0: "{}", 1: "not a mark"})
	settle(o, 99)
	f("not a mark", o, 0, false)
}

// openBlocks are shared by all partitions of a process.
func TestOpenBlocksAreSafeForConcurrentUse(*testing.T) {
	var o openBlocks
	var all sync.WaitGroup
	for id := range 4 {
		all.Go(func() {
			defer o.join()()
			for range 200 {
				if o.due() {
					o.see(map[int]string{id: "{}"})
				}
				o.settle(1, time.Now())
				o.overdue(id, 10)
				o.tooFast(time.Now())
			}
		})
	}
	all.Wait()
}
