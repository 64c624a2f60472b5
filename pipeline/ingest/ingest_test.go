package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/errs"
	"tidegate/pipeline/stream"
)

func TestNewRefusesWhatCannotWork(t *testing.T) {
	f := func(want string, change func(*Config)) {
		t.Helper()
		cfg := DefaultConfig("topic")
		change(&cfg)
		if _, err := New(cfg, &fakeWriter{}, testLog(t)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
	}
	f("Topic is empty", func(c *Config) { c.Topic = "" })
	f("Interval is 0s", func(c *Config) { c.Interval = 0 })
	f("RowsMax is 0", func(c *Config) { c.RowsMax = 0 })
	f("BytesMax is -1", func(c *Config) { c.BytesMax = -1 })
	f("OpenEntriesMax is 0", func(c *Config) { c.OpenEntriesMax = 0 })
	f("Linger is -1ns", func(c *Config) { c.Linger = -1 })
	f("InsertsMax is 0", func(c *Config) { c.InsertsMax = 0 })
	f("InsertsMax is 65", func(c *Config) { c.InsertsMax = 65 })
	f("MemoryBytes is 1000", func(c *Config) { c.MemoryBytes = 1000 })
	f("StopGrace is 0s", func(c *Config) { c.StopGrace = 0 })
}

func TestBuildEndsABlockWhereItIsFull(t *testing.T) {
	f := func(sizes []int, rowsMax, bytesMax, want int, wantFull bool) {
		t.Helper()
		var batches []stream.Batches
		for i, n := range sizes {
			batches = append(batches, stream.BatchesOf([]stream.Record{{Offset: int64(i), Value: make([]byte, n)}}))
		}
		s := newSlots(1, bytesMax)
		slot, err := s.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		next, full := s.build(slot, batches, 0, -1, rowsMax, bytesMax)
		if len(slot.records) != want || next != int64(want) || full != wantFull {
			t.Errorf("build(%v, %d, %d) takes %d, up to %d, full: %t, want %d, %t", sizes, rowsMax, bytesMax, len(slot.records), next, full, want, wantFull)
		}
		if taken := sum(sizes[:want]); slot.needed < taken {
			t.Errorf("build(%v, %d, %d) says that it needs %d bytes, and took %d", sizes, rowsMax, bytesMax, slot.needed, taken)
		}
		// Built again it is as large, whatever the bounds are by then.
		if s.build(slot, batches, 0, next, 1, 1); len(slot.records) != want {
			t.Errorf("%v, %d, %d: built again it has %d records, want %d", sizes, rowsMax, bytesMax, len(slot.records), want)
		}
	}
	f([]int{1, 1, 1}, 10, 10, 3, false)
	f([]int{1, 1, 1}, 2, 10, 2, true)
	f([]int{1, 1, 1}, 3, 10, 3, true)
	f([]int{4, 4, 4}, 10, 10, 2, true)
	f([]int{5, 5, 1}, 10, 10, 2, true)
	f([]int{50, 1}, 10, 10, 1, true) // larger than a block: alone
	f([]int{0, 0, 50}, 10, 10, 2, true)
}

func sum(sizes []int) (total int64) {
	for _, n := range sizes {
		total += int64(n)
	}
	return total
}

// What a backlog took is given back when blocks have been small for long, and not while large ones come between.
func TestSlotsForgetABacklog(t *testing.T) {
	s := newSlots(1, 64<<20)
	block := func(bytes int64) { // as build leaves a slot
		slot, err := s.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		slot.needed = bytes
		if grown := bytes - slot.bytes; grown > 0 {
			slot.bytes += grown
			s.bytes.Add(grown)
		}
		s.give(slot)
	}
	held := func() int64 { return s.bytes.Load() }
	const large, small = 16 << 20, 64 << 10
	for range 3 {
		block(large)
		for range forgetAfter {
			block(small)
		}
		if held() < large {
			t.Fatalf("%d bytes are held %d small blocks after a large one: too few to tell that it was the last", held(), forgetAfter)
		}
	}
	block(small)
	if held() != 0 {
		t.Errorf("%d bytes are held after %d small blocks in a row", held(), forgetAfter+1)
	}
	for range 2 * forgetAfter {
		block(small)
	}
	if held() == 0 {
		t.Error("a slot of small blocks gives back what it uses each time")
	}
}

// The protocol, line by line: plan, insert, commit.
func TestEveryBlockIsPlannedThenInsertedThenCommitted(t *testing.T) {
	p, w := newFake(100, 25), &fakeWriter{}
	p.fetchMax = 7
	stop := start(t, newIngest(t, w, func(c *Config) { c.RowsMax = 10 }), p)
	eventually(t, "all is committed", func() bool { return p.settledAt(125) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	at := func(offset int64) int64 { return good(offset).Time.UnixMilli() }
	block := func(begin, end int64) []string {
		return []string{
			fmt.Sprintf(`%d {"begin":%d,"end":%d,"at":%d,"newest":%d}`, begin, begin, end, at(begin), at(end-1)),
			fmt.Sprintf(`%d {"newest":%d}`, end, at(end-1)),
		}
	}
	wantCommits := slices.Concat(block(100, 110), block(110, 120), block(120, 125))
	if !slices.Equal(p.commits, wantCommits) {
		t.Errorf("commits are %q, want %q", p.commits, wantCommits)
	}
	wantTokens := []string{
		fmt.Sprintf("topic-4-100-110-%d", at(100)), fmt.Sprintf("topic-4-110-120-%d", at(110)), fmt.Sprintf("topic-4-120-125-%d", at(120)),
	}
	if !slices.Equal(w.tokens, wantTokens) {
		t.Errorf("tokens are %q, want %q", w.tokens, wantTokens)
	}
	if !slices.Equal(w.offsets(), seq(100, 125)) {
		t.Errorf("stored offsets are %v", w.offsets())
	}
}

func TestBytesCloseABlock(t *testing.T) {
	p, w := newFake(0, 6), &fakeWriter{}
	size := len(value(1))
	stop := start(t, newIngest(t, w, func(c *Config) { c.BytesMax = 2*size + size/2 }), p)
	eventually(t, "all is committed", func() bool { return p.settledAt(6) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if len(w.tokens) != 3 {
		t.Errorf("blocks are %q, want three of two records", w.tokens)
	}
}

// Who goes on after a crash builds the block that was planned and not the one it
// would plan itself.
func TestPlannedBlockIsRepeatedAsItWas(t *testing.T) {
	old := plan{Begin: 103, End: 108, At: good(103).Time.UnixMilli()}
	p, w := newFake(100, 20).committed(103, newMark(old, time.Time{}).String()), &fakeWriter{}
	p.fetchMax = 3
	stop := start(t, newIngest(t, w, nil), p)
	eventually(t, "all is committed", func() bool { return p.settledAt(120) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if w.tokens[0] != old.token("topic", 4) || !slices.Equal(w.events[w.tokens[0]], seq(103, 108)) {
		t.Errorf("first block is %s with %v", w.tokens[0], w.events[w.tokens[0]])
	}
	// The plan again, as a proof that the partition is this reader's.
	if p.commits[0] != "103 "+newMark(old, good(107).Time).String() || p.commits[1] != "108 "+newMark(plan{}, good(107).Time).String() {
		t.Errorf("first commits are %q and %q, want the same plan, and 108 without another one", p.commits[0], p.commits[1])
	}
	if !slices.Equal(w.offsets(), seq(103, 120)) {
		t.Errorf("stored offsets are %v", w.offsets())
	}
}

// What Kafka no longer has is skipped and the rest of the plan is stored.
func TestStartAfterALoss(t *testing.T) {
	at := func(offset int64) int64 { return good(offset).Time.UnixMilli() }
	planned := func(p plan) string { return newMark(p, good(p.End-1).Time).String() }
	seen := func(last int64) string { return newMark(plan{}, good(last).Time).String() }
	anew := func(p *fakePartition) *fakePartition { // later than all that was seen
		for i := range p.records {
			p.records[i].Time = p.records[i].Time.Add(time.Hour)
		}
		return p
	}
	f := func(name string, p *fakePartition, want []int64, wantFirstToken string) {
		t.Helper()
		w := &fakeWriter{}
		stop := start(t, newIngest(t, w, nil), p)
		eventually(t, name+": all is committed", func() bool { return p.settledAt(p.next) })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(w.offsets(), want) {
			t.Errorf("%s: stored offsets are %v, want %v", name, w.offsets(), want)
		}
		if len(w.tokens) > 0 && !strings.HasPrefix(w.tokens[0], wantFirstToken) {
			t.Errorf("%s: first block is %s, want %s...", name, w.tokens[0], wantFirstToken)
		}
	}
	f("no plan, offset removed", newFake(50, 10).committed(40, ""), seq(50, 60), "topic-4-50-60-")
	f("head of the plan removed", newFake(50, 10).committed(45, planned(plan{Begin: 45, End: 55, At: at(45)})), seq(50, 60), "topic-4-45-55-")
	f("whole plan removed", newFake(50, 10).committed(30, planned(plan{Begin: 30, End: 40, At: at(30)})), seq(50, 60), "topic-4-50-60-")
	f("tail of the plan lost", newFake(50, 10).committed(55, planned(plan{Begin: 55, End: 70, At: at(55)})), seq(55, 60), "topic-4-55-70-")
	f("partition shorter than the offset, nothing known", newFake(0, 10).committed(30, ""), seq(0, 10), "topic-4-0-10-")
	f("topic made anew and shorter than the offset", anew(newFake(0, 10)).committed(30, seen(29)), seq(0, 10), "topic-4-0-10-")
	f("topic made anew and shorter than the plan", anew(newFake(0, 10)).committed(30, planned(plan{Begin: 30, End: 40, At: at(30)})), seq(0, 10), "topic-4-0-10-")
	f("topic made anew and empty", newFake(0, 0).committed(30, seen(29)), nil, "")
	f("topic made anew", newFake(0, 50).committed(30, planned(plan{Begin: 30, End: 40, At: at(30) - 1})), seq(0, 50), "topic-4-0-50-")
	f("metadata that is no plan", newFake(0, 10).committed(3, "moved by hand"), seq(3, 10), "topic-4-3-10-")
	f("a plan for another offset", newFake(0, 10).committed(3, planned(plan{Begin: 5, End: 8, At: at(5)})), seq(3, 10), "topic-4-3-10-")
}

// The story: a broker came back from an unclean leader election without the end
// of a partition, and ingest, which took it for a topic made anew, began at its
// first record. Everything that was left was counted twice, in the rates too.
func TestAPartitionThatLostItsEndIsNotCountedTwice(t *testing.T) {
	f := func(name, metadata string) {
		t.Helper()
		p, w := newFake(0, 10).committed(30, metadata), &fakeWriter{}
		stop := start(t, newIngest(t, w, nil), p)
		eventually(t, name+": it goes on at the new end", func() bool { return p.settledAt(10) })
		p.write(good(10))
		eventually(t, name+": what is written now is stored", func() bool { return p.settledAt(11) })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(w.offsets(), []int64{10}) {
			t.Errorf("%s: stored offsets are %v, want the new one alone", name, w.offsets())
		}
		if m, err := parseMark(p.metadata); err != nil || m.Newest < good(29).Time.UnixMilli() {
			t.Errorf("%s: the newest record seen is forgotten: %q, %v", name, p.metadata, err)
		}
	}
	f("after a settled block", newMark(plan{}, good(29).Time).String())
	f("after a plan", newMark(plan{Begin: 30, End: 40, At: good(30).Time.UnixMilli()}, good(39).Time).String())
}

// The story: power failed, and the broker came back without what it had not written to
// its disk. Gateways sent what they had in their spools before ingest looked where the
// partition ends now, and ingest went on there: none of it was ever counted. Where the
// new end was behind the old one, the number of what was lost was negative.
func TestWhatIsWrittenAfterALostEndIsCounted(t *testing.T) {
	f := func(name string, written int64, want []int64) {
		t.Helper()
		p, w := newFake(0, 30), &fakeWriter{}
		in := newIngest(t, w, nil)
		stop := start(t, in, p)
		eventually(t, name+": all is stored", func() bool { return p.settledAt(30) })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		p.mu.Lock()
		p.records, p.next = p.records[:10], 10
		p.lostEnd = func() { // when the fetch has failed
			for offset := int64(10); offset < 10+written; offset++ {
				r := good(offset)
				r.Time = good(30 + offset).Time
				p.records, p.next = append(p.records, r), offset+1
			}
		}
		p.mu.Unlock()
		stop = start(t, in, p)
		eventually(t, name+": it is at the end again", func() bool { return p.settledAt(10+written) && len(w.offsets()) == len(want) })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(w.offsets(), want) {
			t.Errorf("%s: stored offsets are %v, want %v", name, w.offsets(), want)
		}
	}
	twice := func(first, next, last int64) []int64 {
		all := append(seq(0, max(30, last)), seq(first, next)...)
		slices.Sort(all)
		return all
	}
	f("nothing", 0, seq(0, 30))
	f("less than was lost", 5, twice(10, 15, 30))
	f("as much as was lost", 20, twice(10, 30, 30))
	f("more than was lost", 25, twice(10, 30, 35))
}

// A record from a gateway's spool may be the last that was settled, and older than
// the first one kept; the newest one counts.
func TestALateRecordDoesNotHideThatAPartitionLostItsEnd(t *testing.T) {
	p, w := newFake(0, 30), &fakeWriter{}
	late := good(30)
	late.Time = good(0).Time.Add(-time.Hour)
	p.write(late)
	in := newIngest(t, w, nil)
	stop := start(t, in, p)
	eventually(t, "all is stored", func() bool { return p.settledAt(31) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.records, p.next = p.records[:10], 10
	p.mu.Unlock()
	stop = start(t, in, p)
	eventually(t, "it goes on at the new end", func() bool { return p.settledAt(10) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(w.offsets(), seq(0, 31)) {
		t.Errorf("stored offsets are %v, want each once", w.offsets())
	}
}

// The offsets of a partition may have gaps, where a transaction ended or records
// were compacted away.
func TestGapsBetweenOffsets(t *testing.T) {
	p, w := newFake(0, 0), &fakeWriter{}
	for _, offset := range []int64{2, 3, 7, 8, 20} {
		p.write(good(offset))
	}
	p.mu.Lock()
	p.next = 25 // the last five offsets hold no record
	p.mu.Unlock()
	stop := start(t, newIngest(t, w, func(c *Config) { c.RowsMax = 2 }), p)
	eventually(t, "all is committed", func() bool { return p.settledAt(21) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(w.offsets(), []int64{2, 3, 7, 8, 20}) || len(w.tokens) != 3 {
		t.Errorf("blocks are %v", w.events)
	}
}

// A failing insert is repeated with the same rows under the same token; nothing
// is committed meanwhile, and nothing is skipped.
func TestInsertIsRepeatedUntilItSucceeds(t *testing.T) {
	for _, failure := range []error{errs.New(errs.Unavailable, 0, "away"), errors.New("refused")} {
		p, w := newFake(0, 10), &fakeWriter{}
		var tries atomic.Int64
		w.onInsert = func(_ context.Context, token string) error {
			if !strings.HasPrefix(token, "topic-4-0-10-") {
				t.Errorf("token is %s", token)
			}
			if offset, metadata, _ := p.Committed(); offset != 0 || !strings.Contains(metadata, `"end":10`) {
				t.Errorf("committed offset is %d %q before the block is stored", offset, metadata)
			}
			if tries.Add(1) < 4 {
				return failure
			}
			return nil
		}
		stop := start(t, newIngest(t, w, nil), p)
		eventually(t, "all is committed", func() bool { return p.settledAt(10) })
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if tries.Load() != 4 || !slices.Equal(w.offsets(), seq(0, 10)) {
			t.Errorf("%d tries stored %v", tries.Load(), w.offsets())
		}
	}
}

// While ClickHouse is away a stop must not wait for it, and must not commit.
func TestStopWhileTheInsertFails(t *testing.T) {
	p, w := newFake(0, 10), &fakeWriter{}
	failing := make(chan struct{}, 100)
	w.onInsert = func(context.Context, string) error {
		failing <- struct{}{}
		return errors.New("away")
	}
	stop := start(t, newIngest(t, w, nil), p)
	<-failing
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if len(p.commits) != 1 || !strings.HasPrefix(p.commits[0], `0 {"end":10`) {
		t.Errorf("commits are %q, want the plan alone", p.commits)
	}
}

// A soft stop finishes the block in hand.
func TestStopFinishesTheBlockInHand(t *testing.T) {
	p, w := newFake(0, 10), &fakeWriter{}
	inserting, release := make(chan struct{}), make(chan struct{})
	w.onInsert = func(ctx context.Context, _ string) error {
		close(inserting)
		<-release
		return ctx.Err()
	}
	in := newIngest(t, w, nil)
	in.cfg.StopGrace = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- in.HandlePartition(ctx, p) }()
	<-inserting
	cancel()
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !p.settledAt(10) {
		t.Errorf("commits are %q, want 10 without a plan", p.commits)
	}
}

// An insert that hangs is given up after the grace period, and its plan stays for
// the next reader.
func TestStopGivesUpOnAHangingInsert(t *testing.T) {
	p, w := newFake(0, 10), &fakeWriter{}
	inserting := make(chan struct{})
	w.onInsert = func(ctx context.Context, _ string) error {
		close(inserting)
		<-ctx.Done()
		return ctx.Err()
	}
	stop := start(t, newIngest(t, w, func(c *Config) { c.StopGrace = 10 * time.Millisecond }), p)
	<-inserting
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if offset, metadata, _ := p.Committed(); offset != 0 || !strings.Contains(metadata, `"end":10`) {
		t.Errorf("committed %d %q, want the plan at 0", offset, metadata)
	}
}

func TestFencedReaderStops(t *testing.T) {
	for name, fenceAt := range map[string]int{"at the plan": 1, "at the end": 2} {
		p, w := newFake(0, 10), &fakeWriter{}
		commits := 0
		p.onCommit = func(int64, string) error {
			if commits++; commits >= fenceAt {
				return fmt.Errorf("commit: %w", stream.ErrFenced)
			}
			return nil
		}
		err := newIngest(t, w, nil).HandlePartition(t.Context(), p)
		if !errors.Is(err, stream.ErrFenced) {
			t.Errorf("%s: %v, want ErrFenced", name, err)
		}
		if w.inserts != fenceAt-1 {
			t.Errorf("%s: %d inserts, want %d", name, w.inserts, fenceAt-1)
		}
	}
}

// Low load: a record that comes alone is stored at once, not when a block is full.
func TestRecordsThatTrickleIn(t *testing.T) {
	p, w := newFake(0, 1), &fakeWriter{}
	stop := start(t, newIngest(t, w, nil), p)
	for n := int64(1); n <= 5; n++ {
		eventually(t, fmt.Sprint(n, " are stored"), func() bool { return int64(len(w.offsets())) == n })
		p.write(good(n))
	}
	eventually(t, "all are stored", func() bool { return len(w.offsets()) == 6 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
