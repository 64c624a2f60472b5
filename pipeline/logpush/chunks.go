package logpush

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"sort"
	"sync"

	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
)

// Reader reads the event topic for all jobs together. It is safe for concurrent use.
type Reader interface {
	// Fetch returns the records of a partition from offset on, as many as fit into
	// one answer, the first being the first that is kept. Where there is none yet it
	// returns none, or, if it is to wait, blocks until there is one. A broker that is
	// away is waited for in any case. The error is ctx's, or a
	// *stream.OutOfRangeError.
	Fetch(ctx context.Context, partition int, offset int64, wait bool) ([]stream.Record, error)
}

// chunk is a range of one partition, read, decoded and split once for all jobs.
// Nobody changes it.
type chunk struct {
	spot            // that was asked for
	next    int64   // offset after the last record
	records []entry // not empty
	bytes   int64
}

// entry is a record of a chunk.
type entry struct {
	*stream.Record
	event     logjob.Record
	malformed bool // event is empty: the value is not one JSON object
	truncated bool // Logs or Exceptions were cut to their budget
}

// from returns the records at and behind a position.
func (c *chunk) from(position int64) []entry {
	i := sort.Search(len(c.records), func(i int) bool { return c.records[i].Offset >= position })
	return c.records[i:]
}

// chunks lets all jobs of the process read the topic once. Jobs that stand at the
// same place wait for one fetch and get one chunk; jobs that are a little behind
// find it in the cache; a job that lags reads for itself.
//
// In memory are the cache, chunks whose askers have not had their turn yet, and
// those that somebody looks at; each is bounded by a number of its own.
type chunks struct {
	reader  Reader
	limit   int64 // bytes of the cache
	metrics *metrics
	// desks are for those who look at a chunk, which keeps a processor busy: there
	// are as many. Whoever waits for a destination has none.
	desks chan struct{}
	// loads bounds fetches of what is there already, each until its last asker has
	// left. Waiting for what is still to come is not bounded: it brings little.
	loads   chan struct{}
	running sync.WaitGroup

	mu      sync.Mutex
	cached  map[int][]*chunk // by partition, in the order of first
	oldest  []*chunk         // all of them, in the order in which they came
	bytes   int64            // of all of them
	flights map[spot]*flight
}

// spot is an offset of a partition.
type spot struct {
	partition int
	offset    int64
}

// flight is one fetch and its result, which stays until all who asked have left.
type flight struct {
	ready  chan struct{} // closed when chunk or err is there
	chunk  *chunk
	err    error
	cancel context.CancelFunc

	// Guarded by chunks.mu.
	askers int
	loaded bool // holds one of loads
}

func newChunks(reader Reader, limit int64, m *metrics) *chunks {
	processors := runtime.GOMAXPROCS(0)
	return &chunks{
		reader: reader, limit: limit, metrics: m,
		desks: make(chan struct{}, processors), loads: make(chan struct{}, processors+2),
		cached: map[int][]*chunk{}, flights: map[spot]*flight{},
	}
}

// ticket is one delivery's wish for the chunk at a spot. Whoever has one leaves
// soon after it is ready: others wait for the memory.
type ticket struct {
	*flight
	chunks *chunks
	spot   spot
	cached bool
}

var always = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// ask returns a ticket for the chunk that holds an offset, or that begins there.
func (c *chunks) ask(partition int, offset int64) *ticket {
	at := spot{partition, offset}
	c.mu.Lock()
	defer c.mu.Unlock()
	if found := c.find(at); found != nil {
		c.metrics.shared.Add(context.Background(), 1)
		return &ticket{flight: &flight{ready: always, chunk: found}, cached: true}
	}
	f := c.flights[at]
	if f == nil {
		ctx, cancel := context.WithCancel(context.Background())
		f = &flight{ready: make(chan struct{}), cancel: cancel}
		c.flights[at] = f
		c.running.Go(func() { c.fly(ctx, at, f) })
	} else {
		c.metrics.shared.Add(context.Background(), 1)
	}
	f.askers++
	return &ticket{flight: f, chunks: c, spot: at}
}

// leave gives the ticket back. A fetch that nobody waits for any more ends.
func (t *ticket) leave() {
	if t.cached {
		return
	}
	c := t.chunks
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.askers--; t.askers > 0 {
		return
	}
	t.cancel()
	if c.flights[t.spot] == t.flight {
		delete(c.flights, t.spot)
	}
	c.unload(t.flight)
}

// load takes one of loads for a flight and reports whether somebody still waits for it.
func (c *chunks) load(ctx context.Context, f *flight) bool {
	select {
	case <-ctx.Done():
		return false
	case c.loads <- struct{}{}:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f.loaded = true
	if f.askers == 0 {
		c.unload(f)
	}
	return f.askers > 0
}

// unload is called with mu held.
func (c *chunks) unload(f *flight) {
	if f.loaded {
		f.loaded = false
		<-c.loads
	}
}

// fly fetches the chunk at a spot. First it asks for what is there: that is much
// if the asker lags, so only a few may do so at a time. If there is nothing, it
// waits at the end of the partition.
func (c *chunks) fly(ctx context.Context, at spot, f *flight) {
	if !c.load(ctx, f) {
		return
	}
	records, err := c.fetch(ctx, at, false)
	if err == nil && len(records) == 0 {
		c.mu.Lock()
		c.unload(f)
		c.mu.Unlock()
		records, err = c.fetch(ctx, at, true)
	}
	var got *chunk
	if err == nil {
		got = newChunk(at, records)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flights[at] == f {
		delete(c.flights, at)
	}
	if _, gone := errors.AsType[*stream.OutOfRangeError](err); gone {
		c.forget(at.partition)
	}
	if got != nil {
		c.keep(got)
	}
	f.chunk, f.err = got, err
	close(f.ready)
}

func (c *chunks) fetch(ctx context.Context, at spot, wait bool) ([]stream.Record, error) {
	c.metrics.fetches.Add(ctx, 1)
	return c.reader.Fetch(ctx, at.partition, at.offset, wait)
}

// newChunk decodes what was fetched.
func newChunk(at spot, records []stream.Record) *chunk {
	const entryBytes = 512 // with the fields of its event
	c := &chunk{spot: at, next: records[len(records)-1].Offset + 1, records: make([]entry, len(records)), bytes: 1024}
	var splitter logjob.Splitter
	for i := range records {
		e := &c.records[i]
		e.Record = &records[i]
		e.malformed = splitter.Split(&e.event, e.Value) != nil
		e.truncated = !e.malformed && e.event.Truncate()
		c.bytes += int64(len(e.Value)) + entryBytes
	}
	return c
}

// find is called with mu held.
func (c *chunks) find(at spot) *chunk {
	list := c.cached[at.partition]
	i, _ := slices.BinarySearchFunc(list, at.offset+1, func(k *chunk, offset int64) int { return cmp.Compare(k.offset, offset) })
	// Chunks that were asked for at different offsets may overlap.
	for _, k := range slices.Backward(list[max(i-3, 0):i]) {
		if at.offset < k.next {
			return k
		}
	}
	return nil
}

// keep is called with mu held.
func (c *chunks) keep(k *chunk) {
	list := c.cached[k.partition]
	i, _ := slices.BinarySearchFunc(list, k.offset, func(k *chunk, offset int64) int { return cmp.Compare(k.offset, offset) })
	c.cached[k.partition] = slices.Insert(list, i, k)
	c.oldest = append(c.oldest, k)
	c.bytes += k.bytes
	for c.bytes > c.limit && len(c.oldest) > 0 {
		c.drop(c.oldest[0])
		c.oldest[0] = nil
		c.oldest = c.oldest[1:]
	}
}

// drop takes a chunk out of its partition's list. Mu is held.
func (c *chunks) drop(k *chunk) {
	c.cached[k.partition] = slices.DeleteFunc(c.cached[k.partition], func(other *chunk) bool { return other == k })
	c.bytes -= k.bytes
}

// forget drops all of a partition: what Kafka has at these offsets may be
// something else from now on. Mu is held.
func (c *chunks) forget(partition int) {
	c.oldest = slices.DeleteFunc(c.oldest, func(k *chunk) bool {
		if k.partition == partition {
			c.bytes -= k.bytes
		}
		return k.partition == partition
	})
	delete(c.cached, partition)
}

// size returns the bytes of the cache.
func (c *chunks) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// wait returns when no fetch is under way. Nobody may ask any more.
func (c *chunks) wait() { c.running.Wait() }
