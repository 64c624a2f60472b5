package logpush

import (
	"sort"
	"sync"

	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
)

// chunk is a range of one partition, fetched, and then decoded and split once for all
// jobs, by the first of them that looks at it: the job goes on with what its processor
// has just worked on. Nobody changes what it holds then.
type chunk struct {
	spot          // where it begins
	next    int64 // offset behind it
	once    sync.Once
	records []entry
	bad     []stream.Undecodable // what lies between the records, in order

	// Guarded by chunks.mu.
	batches stream.Batches // until it is decoded
	arena   *arena         // from then on
	bytes   int64          // of the two, as they count in the cache
	pins    int            // those who use it, and fetches with askers
	cached  bool
	asked   bool
}

// chunkBytes is what a chunk takes beside what it holds.
const chunkBytes = 512

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

// undecodable returns the batches that end behind a position and cannot be decoded.
func (c *chunk) undecodable(position int64) []stream.Undecodable {
	i := sort.Search(len(c.bad), func(i int) bool { return c.bad[i].Next > position })
	return c.bad[i:]
}

// arena is the memory of a chunk that is decoded. It is used for one after the other:
// making it anew for each would cost as much as filling it.
type arena struct {
	stream   stream.Memory
	entries  []entry
	splitter logjob.Splitter
}

// arenaMax bytes of memory are worth keeping: a batch of a megabyte with what is made of it.
const arenaMax = 4 << 20

// split decodes and splits batches. What it returns is valid until it is called again.
func (a *arena) split(batches *stream.Batches) ([]entry, []stream.Undecodable) {
	records, bad := batches.Decode(&a.stream)
	a.splitAll(records)
	return a.entries, bad
}

func (a *arena) splitAll(records []stream.Record) {
	if cap(a.entries) < len(records) {
		a.entries = make([]entry, len(records))
	}
	all := a.entries[:cap(a.entries)]
	clear(all[len(records):]) // they would hold on to what was before
	a.entries = all[:len(records)]
	for i := range records {
		e := &a.entries[i]
		e.Record = &records[i]
		e.malformed = a.splitter.Split(&e.event, e.Value) != nil
		e.truncated = !e.malformed && e.event.Truncate()
	}
}

// size returns the bytes of the memory.
func (a *arena) size() int64 {
	const entryBytes = 200
	return int64(a.stream.Size()+cap(a.entries)*entryBytes) + chunkBytes
}
