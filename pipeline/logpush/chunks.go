package logpush

import (
	"cmp"
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"sync"

	"tidegate/pipeline/stream"
)

// Reader reads the event topic for all jobs together. It is safe for concurrent use.
type Reader interface {
	// FetchBatches returns the records of a partition from offset on, as many as fit
	// into one answer, the first being the first that is kept. Where there is none yet
	// it returns none, or, if it is to wait, blocks until there is one. A broker that is
	// away is waited for in any case. The error is ctx's, or a *stream.OutOfRangeError.
	FetchBatches(ctx context.Context, partition int, offset int64, wait bool) ([]stream.Batches, error)
}

// chunks lets all jobs of the process read the topic once. Jobs that stand at the
// same place wait for one fetch; the first that looks at a chunk of it decodes it for
// all; jobs that are a little behind find it in the cache; a job that lags reads for itself.
//
// In memory are the cache, chunks that somebody looks at, and those of fetches whose
// askers have not had their turn yet; each is bounded by a number of its own.
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
	ending  context.Context // of fetches
	end     context.CancelFunc

	mu      sync.Mutex
	cached  map[int][]*chunk // by partition, in the order of first
	oldest  []*chunk         // all of them, in the order in which they came
	bytes   int64            // of all of them
	flights map[spot]*flight
	seats   map[int][]*seat // by partition
	spare   []*arena        // as many as there are desks, at most
}

// spot is an offset of a partition.
type spot struct {
	partition int
	offset    int64
}

// flight is one fetch and its result, which stays until all who asked have left.
type flight struct {
	ready  chan struct{} // closed when chunk or err is there
	chunk  *chunk        // the first of the answer
	err    error
	cancel context.CancelFunc

	// Guarded by chunks.mu.
	askers int
	loaded bool // holds one of loads
	landed bool
}

// seat is where a delivery stands in its partition.
type seat struct {
	partition int
	position  int64 // guarded by chunks.mu
}

func newChunks(reader Reader, limit int64, m *metrics) *chunks {
	processors := runtime.GOMAXPROCS(0)
	c := &chunks{
		reader: reader, limit: limit, metrics: m,
		desks: make(chan struct{}, processors), loads: make(chan struct{}, 2*processors+2),
		cached: map[int][]*chunk{}, flights: map[spot]*flight{}, seats: map[int][]*seat{},
	}
	c.ending, c.end = context.WithCancel(context.Background())
	return c
}

// ticket is one delivery's wish for the chunk at a spot. Whoever has one leaves
// soon after it is ready: others wait for the memory.
type ticket struct {
	*flight // nil if the chunk is in the cache
	chunks  *chunks
	spot    spot
	ready   <-chan struct{}
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
		return c.cachedTicket(at, found)
	}
	f := c.flights[at]
	if f == nil {
		f = c.takeOff(at, false)
	} else {
		c.metrics.shared.Add(context.Background(), 1)
	}
	f.askers++
	return &ticket{flight: f, chunks: c, spot: at, ready: f.ready}
}

// atHand is ask for a chunk that is in the cache. It returns nil if it is not.
func (c *chunks) atHand(partition int, offset int64) *ticket {
	at := spot{partition, offset}
	c.mu.Lock()
	defer c.mu.Unlock()
	found := c.find(at)
	if found == nil {
		return nil
	}
	return c.cachedTicket(at, found)
}

// cachedTicket is called with mu held.
func (c *chunks) cachedTicket(at spot, found *chunk) *ticket {
	if found.asked {
		c.metrics.shared.Add(context.Background(), 1)
	}
	found.asked = true
	return &ticket{chunks: c, spot: at, ready: always}
}

// takeOff begins a fetch. Mu is held.
func (c *chunks) takeOff(at spot, ahead bool) *flight {
	ctx, cancel := context.WithCancel(c.ending)
	f := &flight{ready: make(chan struct{}), cancel: cancel, loaded: ahead}
	if ahead {
		f.askers++
	}
	c.flights[at] = f
	c.running.Go(func() { c.fly(ctx, at, f, ahead) })
	return f
}

// readAhead begins to fetch what follows an answer that was full and is half through, so
// that it is there when the rest is. It does so while few others load.
func (c *chunks) readAhead(at spot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flights[at] != nil || c.find(at) != nil {
		return
	}
	select {
	case c.loads <- struct{}{}:
		c.takeOff(at, true)
	default:
	}
}

// leave gives the ticket back. A fetch that nobody waits for any more ends.
func (t *ticket) leave() {
	if t.flight != nil {
		t.chunks.mu.Lock()
		defer t.chunks.mu.Unlock()
		t.chunks.leave(t.spot, t.flight)
	}
}

// leave is called with mu held.
func (c *chunks) leave(at spot, f *flight) {
	if f.askers--; f.askers > 0 {
		return
	}
	f.cancel()
	if c.flights[at] == f {
		delete(c.flights, at)
	}
	if f.landed && f.chunk != nil {
		c.unpin(f.chunk)
	}
	c.unload(f)
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
// waits at the end of the partition, unless nobody asked yet.
func (c *chunks) fly(ctx context.Context, at spot, f *flight, ahead bool) {
	if !ahead && !c.load(ctx, f) {
		return
	}
	batches, err := c.fetch(ctx, at, false)
	if err == nil && len(batches) == 0 {
		c.mu.Lock()
		c.unload(f)
		if ahead {
			ahead = false
			c.leave(at, f)
		}
		c.mu.Unlock()
		batches, err = c.fetch(ctx, at, true) // ctx has ended if nobody waits
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flights[at] == f {
		delete(c.flights, at)
	}
	if _, gone := errors.AsType[*stream.OutOfRangeError](err); gone {
		c.forget(at.partition)
	}
	if err == nil {
		f.chunk = c.keep(at.partition, batches)
		f.chunk.asked = f.chunk.asked || f.askers > 0 && !ahead
	}
	f.err, f.landed = err, true
	if f.askers > 0 && f.chunk != nil {
		f.chunk.pins++
	}
	close(f.ready)
	if ahead {
		c.leave(at, f)
	}
}

func (c *chunks) fetch(ctx context.Context, at spot, wait bool) ([]stream.Batches, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	c.metrics.fetches.Add(ctx, 1)
	return c.reader.FetchBatches(ctx, at.partition, at.offset, wait)
}

// take returns the chunk of a ticket that is ready, decoded, for as long as it is not
// put back. It is nil if it has left the cache meanwhile. Whoever takes one has a desk.
func (t *ticket) take() *chunk {
	c := t.chunks
	c.mu.Lock()
	k := c.find(t.spot)
	if t.flight != nil {
		k = t.flight.chunk
	}
	if k == nil {
		c.mu.Unlock()
		return nil
	}
	k.pins++
	c.mu.Unlock()
	k.once.Do(func() { c.decode(k) })
	return k
}

// put gives a chunk back.
func (c *chunks) put(k *chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unpin(k)
}

// decode is called once for a chunk, by its first reader.
func (c *chunks) decode(k *chunk) {
	if at := k.batches.Ahead; at > 0 {
		c.readAhead(spot{k.partition, at})
	}
	k.arena = c.arena()
	k.records, k.bad = k.arena.split(&k.batches)
	c.mu.Lock()
	defer c.mu.Unlock()
	before := k.bytes
	k.batches = stream.Batches{}
	k.bytes = k.arena.size()
	if k.cached {
		c.bytes += k.bytes - before
		c.shrink()
	}
}

func (c *chunks) arena() *arena {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.spare); n > 0 {
		a := c.spare[n-1]
		c.spare = c.spare[:n-1]
		return a
	}
	return &arena{}
}

// unpin lets somebody go who used a chunk. Mu is held.
func (c *chunks) unpin(k *chunk) {
	k.pins--
	c.recycle(k)
}

// recycle keeps the memory of a chunk that nobody uses any more. Mu is held.
func (c *chunks) recycle(k *chunk) {
	if k.pins > 0 || k.cached || k.arena == nil {
		return
	}
	if len(c.spare) < cap(c.desks) && k.arena.size() <= arenaMax {
		c.spare = append(c.spare, k.arena)
	}
	k.arena, k.records = nil, nil
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

// keep puts what was fetched into the cache and returns the first chunk of it. Mu is held.
func (c *chunks) keep(partition int, batches []stream.Batches) (first *chunk) {
	for _, b := range batches {
		k := &chunk{spot: spot{partition, b.First}, next: b.Next, batches: b, bytes: int64(b.Size()) + chunkBytes, cached: true}
		list := c.cached[partition]
		i, known := slices.BinarySearchFunc(list, k.offset, func(k *chunk, offset int64) int { return cmp.Compare(k.offset, offset) })
		if known && list[i].next == k.next {
			k = list[i]
		} else {
			c.cached[partition] = slices.Insert(list, i, k)
			c.oldest = append(c.oldest, k)
			c.bytes += k.bytes
		}
		if first == nil {
			first = k
		}
	}
	first.pins++ // it is what was asked for, whatever the limit
	c.shrink()
	first.pins--
	return first
}

// shrink drops the oldest chunks until the cache is within its limit. Mu is held.
func (c *chunks) shrink() {
	for c.bytes > c.limit && len(c.oldest) > 0 {
		c.drop(c.oldest[0])
	}
}

// drop takes a chunk out of the cache, if it is there. Mu is held.
func (c *chunks) drop(k *chunk) {
	if !k.cached {
		return
	}
	k.cached = false
	c.cached[k.partition] = slices.DeleteFunc(c.cached[k.partition], func(other *chunk) bool { return other == k })
	i := slices.Index(c.oldest, k)
	c.oldest = slices.Delete(c.oldest, i, i+1)
	c.bytes -= k.bytes
	c.recycle(k)
}

// forget drops all of a partition: what Kafka has at these offsets may be
// something else from now on. Mu is held.
func (c *chunks) forget(partition int) {
	for _, k := range slices.Clone(c.cached[partition]) {
		c.drop(k)
	}
}

// join seats a delivery, which has not said yet where it stands.
func (c *chunks) join(partition int) *seat {
	s := &seat{partition: partition, position: -1}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seats[partition] = append(c.seats[partition], s)
	return s
}

// pass notes where a delivery stands. What all of its partition have passed is dropped.
func (c *chunks) pass(s *seat, position int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.position = position
	c.dropPassed(s.partition)
}

// quit gives a seat back.
func (c *chunks) quit(s *seat) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seats[s.partition] = slices.DeleteFunc(c.seats[s.partition], func(other *seat) bool { return other == s })
	if len(c.seats[s.partition]) == 0 {
		delete(c.seats, s.partition)
		c.forget(s.partition)
		return
	}
	c.dropPassed(s.partition)
}

// dropPassed is called with mu held.
func (c *chunks) dropPassed(partition int) {
	lowest := int64(math.MaxInt64)
	for _, s := range c.seats[partition] {
		lowest = min(lowest, s.position)
	}
	for list := c.cached[partition]; len(list) > 0 && list[0].next <= lowest; list = c.cached[partition] {
		c.drop(list[0])
	}
}

// size returns the bytes of the cache.
func (c *chunks) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// wait returns when no fetch is under way.
func (c *chunks) wait() { c.running.Wait() }

// close ends what is read ahead. Nobody may ask any more.
func (c *chunks) close() {
	c.end()
	c.wait()
}
