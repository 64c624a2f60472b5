package logpush

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

const account = "0123456789abcdef0123456789abcdef"

// memory is a partition and its group's offset in memory. It outlives the
// deliveries that read it.
type memory struct {
	mu        sync.Mutex
	records   []stream.Record
	first     int64
	next      int64
	committed int64
	metadata  string
	ok        bool
	refuse    error                // of commits
	fetching  func(position int64) // called before each fetch; may be nil
	storing   func()               // called before each commit; may be nil
	fetched   int64                // where the farthest fetch began
	grown     chan struct{}
}

func newMemory() *memory { return &memory{grown: make(chan struct{})} }

// add appends events with the given outcomes, stamped now.
func (m *memory) add(outcomes ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, outcome := range outcomes {
		m.append(account, event(outcome, int(m.next)), time.Now())
	}
	close(m.grown)
	m.grown = make(chan struct{})
}

func (m *memory) append(account string, value []byte, at time.Time) {
	m.records = append(m.records, stream.Record{Offset: m.next, Time: at, Account: account, Schema: "1", Value: value})
	m.next++
}

// forget removes what lies before an offset, as retention does.
func (m *memory) forget(before int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.first = before
}

// cut makes the partition end before an offset: a broker lost the rest.
func (m *memory) cut(next int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records, m.next = m.records[:next], next
	close(m.grown)
	m.grown = make(chan struct{})
}

func (m *memory) offset() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.committed
}

// asked returns where the farthest fetch began.
func (m *memory) asked() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fetched
}

// event is an event whose WallTimeMs is its number.
func event(outcome string, number int) []byte {
	e := schema.TraceEvent{ScriptName: "shop", EventTimestampMs: 1, EventType: "fetch", Outcome: outcome, WallTimeMs: new(int64(number))}
	return e.AppendJSON(nil)
}

// reader is one delivery's hold of a memory.
type reader struct {
	*memory
	position int64
}

func (*reader) ID() int { return 3 }

func (r *reader) Committed() (int64, string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.committed, r.metadata, r.ok
}

func (r *reader) Bounds(context.Context) (int64, int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.first, r.next, nil
}

func (r *reader) Marks(context.Context) (map[int]string, error) {
	return nil, errors.New("no delivery asks for the marks of others")
}

func (r *reader) OffsetAt(_ context.Context, t time.Time) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, record := range r.records {
		if record.Offset >= r.first && !record.Time.Before(t) {
			return record.Offset, nil
		}
	}
	return r.next, nil
}

func (r *reader) SeekTo(offset int64) { r.position = offset }

func (r *reader) FetchBatches(ctx context.Context) ([]stream.Batches, error) {
	return r.memory.FetchBatches(ctx, r.ID(), r.position, true)
}

// FetchBatches makes the memory what all jobs read.
func (m *memory) FetchBatches(ctx context.Context, _ int, offset int64, wait bool) ([]stream.Batches, error) {
	records, err := m.fetch(ctx, offset, wait)
	if len(records) == 0 {
		return nil, err
	}
	return []stream.Batches{stream.BatchesOf(records)}, err
}

func (m *memory) fetch(ctx context.Context, offset int64, wait bool) ([]stream.Record, error) {
	if m.fetching != nil {
		m.fetching(offset)
	}
	for {
		m.mu.Lock()
		grown, first, next := m.grown, m.first, m.next
		m.fetched = max(m.fetched, offset)
		var found []stream.Record
		if first <= offset && offset < next {
			// An odd size, so that answers cross the borders of batches.
			found = slices.Clone(m.records[offset:min(offset+7, next)])
		}
		m.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case offset < first || offset > next:
			return nil, &stream.OutOfRangeError{Position: offset, First: first, Next: next}
		case len(found) > 0 || !wait:
			return found, nil
		}
		select {
		case <-ctx.Done():
		case <-grown:
		}
	}
}

func (r *reader) Commit(ctx context.Context, offset int64, metadata string) error {
	if r.storing != nil {
		r.storing()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if r.refuse != nil {
		return r.refuse
	}
	r.committed, r.metadata, r.ok = offset, metadata, true
	return nil
}

// bucket is a destination that keeps objects by name, like a bucket does.
type bucket struct {
	mu      sync.Mutex
	objects map[string]Object
	puts    []string // names, repeats included
	tries   []time.Time
	traits  Traits
	hang    chan struct{} // Put waits until it is closed; may be nil
	slow    func(o Object) chan struct{}
	fail    func(o Object) error // asked before an object is kept
	after   func(o Object) error // asked after it was kept
}

func newBucket() *bucket { return &bucket{objects: map[string]Object{}} }

func (b *bucket) Traits() Traits { return b.traits }

func (b *bucket) NameOf(o *Object) string { return o.Key("/{JOB}/{SCRIPT}/{VERSION}") }

func (b *bucket) Put(ctx context.Context, o Object) error {
	b.mu.Lock()
	hang := b.hang
	if b.slow != nil {
		hang = b.slow(o)
	}
	b.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tries = append(b.tries, time.Now())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if b.fail != nil {
		if err := b.fail(o); err != nil {
			return err
		}
	}
	o.Body = bytes.Clone(o.Body)
	o.Items = slices.Clone(o.Items)
	for i := range o.Items {
		o.Items[i].Text = bytes.Clone(o.Items[i].Text)
	}
	b.objects[o.Name] = o
	b.puts = append(b.puts, o.Name)
	if b.after != nil {
		return b.after(o)
	}
	return nil
}

func (b *bucket) set(fail func(Object) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = fail
}

// names returns the objects' names in order.
func (b *bucket) names() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for name := range b.objects {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// text returns the lines of all objects, in the order in which the objects
// first came.
func (b *bucket) text(t testing.TB) string {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var text strings.Builder
	seen := map[string]bool{}
	for _, name := range b.puts {
		if !seen[name] {
			seen[name] = true
			text.WriteString(unzip(t, b.objects[name].Body))
		}
	}
	return text.String()
}

func unzip(t testing.TB, body []byte) string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// lines is the text of events with the numbers from up to, not including, to.
func lines(from, to int) string {
	var text strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&text, "{\"WallTimeMs\":%d}\n", i)
	}
	return text.String()
}

// job sends the number of each event to a bucket.
func job(id int64) logjob.Job {
	return logjob.Job{
		ID: id, AccountID: account, Dataset: schema.Dataset, Enabled: true, Revision: 1, EnabledAt: time.Now(),
		DestinationConf: fmt.Sprintf("bucket://%d/?secret-access-key=hunter22", id),
		OutputOptions:   &logjob.OutputOptions{FieldNames: []string{"WallTimeMs"}},
	}
}

// reports is a health record.
type reports struct {
	mu   sync.Mutex
	list []logjob.Delivery
}

func (r *reports) add(_ context.Context, d logjob.Delivery) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, d)
	return nil
}

func (r *reports) all() []logjob.Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

// world is one job's delivery on a memory and a bucket.
type world struct {
	deletions []schema.Tombstone
	t         testing.TB
	memory    *memory
	bucket    *bucket
	job       logjob.Job
	reports   *reports
	log       bytes.Buffer

	parallel int     // 1 when zero
	chunks   *chunks // of its own when nil
	budget   *budget
	letters  Letters                    // may be nil
	alert    func(kind, message string) // may be nil
}

func newWorld(t testing.TB) *world {
	return &world{t: t, memory: newMemory(), bucket: newBucket(), job: job(42), reports: &reports{}, budget: &budget{limit: 1 << 30}}
}

func (w *world) sinks() Sinks {
	return Sinks{"bucket": func(*url.URL) (Sink, error) { return w.bucket, nil }}
}

// run is one life of the delivery; it ends the hard way with kill and the soft
// way with stop, which return when it is over.
type run struct {
	kill, stop func()
	err        error // after its end
}

func (w *world) start() *run {
	w.t.Helper()
	settings, err := newSettings(w.job, w.sinks(), Config{DefaultInterval: 30 * time.Second, Parallel: max(w.parallel, 1)})
	if err != nil {
		w.t.Fatal(err)
	}
	settings.deleted = &deleted{from: deletions{list: w.deletions}}
	if err := settings.deleted.refresh(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	m, err := newMetrics()
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopping, stop := context.WithCancel(ctx)
	log := slog.New(slog.NewTextHandler(&w.log, nil))
	h := newHealth(w.job.ID, w.reports.add, log)
	h.letters = w.letters
	if w.alert != nil {
		h.alert = w.alert
	}
	with := &shared{chunks: w.chunks, budget: w.budget}
	if with.chunks == nil {
		with.chunks = newChunks(w.memory, 1<<20, m)
	}
	d := newDelivery(stopping, settings, &reader{memory: w.memory}, with, h, m.of(w.job.ID), log)
	r := &run{}
	var running, helping sync.WaitGroup
	running.Go(func() { r.err = d.run(ctx) })
	helping.Go(func() { h.Run(ctx) })
	wait := func() {
		running.Wait()
		cancel()
		helping.Wait()
		if w.chunks == nil {
			with.chunks.wait()
		}
	}
	r.kill = func() { cancel(); wait() }
	r.stop = func() { stop(); wait() }
	return r
}
