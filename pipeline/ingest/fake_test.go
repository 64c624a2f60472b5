package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"tidegate/pipeline/stream"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

// fakePartition is a partition in memory, for the states that a real broker gets
// into only by retention, truncation or an operator. It is safe for concurrent use.
type fakePartition struct {
	mu       sync.Mutex
	records  []stream.Record
	first    int64 // that is kept
	next     int64 // to be written
	fetchMax int   // records of one fetch
	position int64
	offset   int64
	metadata string
	known    bool
	commits  []string // "offset metadata"
	onCommit func(offset int64, metadata string) error
	away     error          // of Bounds
	others   map[int]string // marks of the group's other partitions
	gap      int64          // if not 0: when it is to be read, it and the offset behind it are gone
	lostEnd  func()         // called once, under mu, when the position is behind the end
	grown    chan struct{}  // closed and replaced when records are added
}

// newFake holds n good records from offset first on.
func newFake(first int64, n int) *fakePartition {
	f := &fakePartition{first: first, next: first, fetchMax: 1000, position: -1, grown: make(chan struct{})}
	for range n {
		f.write(good(f.next))
	}
	return f
}

func (f *fakePartition) write(r stream.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.records = append(f.records, r)
	f.next = r.Offset + 1
	close(f.grown)
	f.grown = make(chan struct{})
}

// committed puts the group at an offset.
func (f *fakePartition) committed(offset int64, metadata string) *fakePartition {
	f.offset, f.metadata, f.known, f.position = offset, metadata, true, offset
	return f
}

// settledAt reports whether the group is at an offset, with no block planned.
func (f *fakePartition) settledAt(want int64) bool {
	offset, metadata, _ := f.Committed()
	m, err := parseMark(metadata)
	return offset == want && err == nil && m.plan == (plan{})
}

func (f *fakePartition) ID() int { return 4 }

func (f *fakePartition) Committed() (int64, string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.offset, f.metadata, f.known
}

func (f *fakePartition) Bounds(ctx context.Context) (int64, int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.first, f.next, errors.Join(f.away, ctx.Err())
}

func (f *fakePartition) OffsetAt(_ context.Context, t time.Time) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.records {
		if r.Offset >= f.first && !r.Time.Before(t) {
			return r.Offset, nil
		}
	}
	return f.next, nil
}

func (f *fakePartition) SeekTo(offset int64) { f.position = offset }

func (f *fakePartition) fetch(ctx context.Context) ([]stream.Record, error) {
	for {
		f.mu.Lock()
		if f.position < 0 {
			f.position = f.first
		}
		if f.gap != 0 && f.position == f.gap {
			f.first, f.gap = f.gap+2, 0
		}
		if f.position < f.first || f.position > f.next {
			defer f.mu.Unlock()
			if f.lostEnd != nil {
				f.lostEnd()
				f.lostEnd = nil
			}
			return nil, &stream.OutOfRangeError{Position: f.position, First: f.first, Next: f.next}
		}
		i, _ := slices.BinarySearchFunc(f.records, f.position, func(r stream.Record, offset int64) int { return int(r.Offset - offset) })
		got := slices.Clone(f.records[i:min(len(f.records), i+f.fetchMax)])
		grown := f.grown
		f.mu.Unlock()
		if len(got) > 0 {
			f.position = got[len(got)-1].Offset + 1
			return got, nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (f *fakePartition) Marks(context.Context) (map[int]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	marks := maps.Clone(f.others)
	if marks == nil {
		marks = map[int]string{}
	}
	if f.known {
		marks[f.ID()] = f.metadata
	}
	return marks, nil
}

func (f *fakePartition) FetchBatches(ctx context.Context) ([]stream.Batches, error) {
	records, err := f.fetch(ctx)
	if err != nil {
		return nil, err
	}
	return []stream.Batches{stream.BatchesOf(records)}, nil
}

func (f *fakePartition) Commit(_ context.Context, offset int64, metadata string) error {
	if f.onCommit != nil {
		if err := f.onCommit(offset, metadata); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.offset, f.metadata, f.known = offset, metadata, true
	f.commits = append(f.commits, fmt.Sprint(offset, " ", metadata))
	return nil
}

// fakeWriter remembers blocks by token, as ClickHouse does.
type fakeWriter struct {
	mu      sync.Mutex
	events  map[string][]int64 // offsets by token
	tokens  []string           // in the order of their first insert
	inserts int
	quarant []int64
	noted   map[string]bool // tokens of the quarantine

	tombstones []schema.Tombstone
	away       error // of Tombstones
	stored     tables.Stored
	proven     []time.Time // of the inserts of events
	onInsert   func(ctx context.Context, token string) error
}

func (w *fakeWriter) InsertEvents(ctx context.Context, token string, rows *tables.Events) error {
	if w.onInsert != nil {
		if err := w.onInsert(ctx, token); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inserts++
	w.proven = append(w.proven, rows.ProvenAt)
	if w.events == nil {
		w.events = map[string][]int64{}
	}
	if _, repeated := w.events[token]; !repeated {
		w.events[token] = slices.Clone(rows.KafkaOffset)
		w.tokens = append(w.tokens, token)
	}
	return nil
}

func (w *fakeWriter) Now() time.Time { return time.Now() }

// Stored tells what a test says that is stored, if it is in the range.
func (w *fakeWriter) Stored(_ context.Context, _ int, begin, end int64) (tables.Stored, error) {
	if w.stored.Last < begin || w.stored.Last >= end {
		return tables.Stored{}, nil
	}
	return w.stored, nil
}

func (w *fakeWriter) InsertQuarantine(_ context.Context, token string, rows *tables.Quarantine) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.noted[token] {
		return nil
	}
	if w.noted == nil {
		w.noted = map[string]bool{}
	}
	w.noted[token] = true
	w.quarant = append(w.quarant, rows.KafkaOffset...)
	return nil
}

func (w *fakeWriter) Tombstones(context.Context) ([]schema.Tombstone, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tombstones, w.away
}

// offsets of all events stored, sorted.
func (w *fakeWriter) offsets() []int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []int64
	for _, block := range w.events {
		all = append(all, block...)
	}
	slices.Sort(all)
	return all
}

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func newIngest(t testing.TB, w Writer, change func(*Config)) *Ingest {
	t.Helper()
	cfg := DefaultConfig("topic")
	cfg.Interval = time.Millisecond
	if change != nil {
		change(&cfg)
	}
	in, err := New(cfg, w, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// start runs HandlePartition until stop, which returns its error.
func start(t testing.TB, in *Ingest, p stream.Partition) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- in.HandlePartition(ctx, p) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() }) // the test has looked at the error if it matters
	return stop
}

// eventually polls until what it waits for holds, and fails the test after a time
// that only a broken program needs.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	eventuallyWithin(t, 90*time.Second, what, holds)
}

// eventuallyWithin is eventually for work that is long by itself.
func eventuallyWithin(t testing.TB, most time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(most)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// seq is the offsets from first up to, but not including, next.
func seq(first, next int64) []int64 {
	var s []int64
	for o := first; o < next; o++ {
		s = append(s, o)
	}
	return s
}
