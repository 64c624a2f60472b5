package ingest

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"tidegate/pipeline/stream"
	tables "tidegate/schema/clickhouse"
)

// slot is the right to store a block, and the memory that a block takes: records are
// decoded by who has one, and by nobody else. So a process holds no more decoded events
// than its slots have room for, however many partitions it reads.
type slot struct {
	memories []*stream.Memory // one for each of the batches that a block is made of
	records  []stream.Record
	block    block
	bytes    int64 // of memories, as slots.bytes has them
	needed   int64 // bytes of the values that the last block is made of
	spared   int   // blocks in a row that needed much less than there is
}

func newSlot() *slot { return &slot{block: block{broken: map[int64]string{}}} }

// slots of a process. They are given in the order in which they are asked for.
type slots struct {
	free  chan *slot
	max   int
	keep  int64        // bytes of memories that a slot keeps for its next block
	bytes atomic.Int64 // that records are decoded into, in all slots
}

// A backlog leaves slots large, and the collector lets garbage pile up to a multiple of what is alive. So a slot
// lets go of what it has when forgetAfter blocks in a row needed less than an eighth of it: under a load of small
// blocks after some tens of seconds. What is below spareMin costs too little to be made anew.
const (
	forgetAfter = 100
	spareMin    = 1 << 20 // bytes
)

// newSlots makes n slots for blocks of so many bytes.
func newSlots(n, blockBytes int) *slots {
	s := &slots{free: make(chan *slot, n), max: n, keep: 2 * int64(blockBytes)}
	for range n {
		s.free <- newSlot()
	}
	return s
}

// take waits for a slot until ctx ends.
func (s *slots) take(ctx context.Context) (*slot, error) {
	select {
	case taken := <-s.free:
		return taken, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// give ends the use of a slot and of all that lies in it.
func (s *slots) give(used *slot) {
	if used.spared++; used.bytes < spareMin || used.needed > used.bytes/8 {
		used.spared = 0
	}
	// Batches may be compressed very well by whoever wants to fill our memory.
	if used.bytes > s.keep || used.spared > forgetAfter {
		s.bytes.Add(-used.bytes)
		used = newSlot()
	}
	s.free <- used
}

func (s *slots) inUse() int { return s.max - len(s.free) }

// build decodes batches from offset begin on, up to offset end, or as far as one block
// goes if end is negative, and returns whether the block is as large as one may be.
// There may turn out to be no record; next is the offset behind what was looked at.
func (s *slots) build(to *slot, batches []stream.Batches, begin, end int64, rowsMax, bytesMax int) (next int64, full bool) {
	to.records = to.records[:0]
	clear(to.block.broken)
	bytes, used := 0, 0
	next = begin
	for i := range batches {
		if batches[i].Next <= begin {
			continue
		}
		if end >= 0 && batches[i].First >= end {
			break
		}
		if used == len(to.memories) {
			to.memories = append(to.memories, new(stream.Memory))
		}
		for _, r := range to.decode(&batches[i], to.memories[used]) {
			if r.Offset < begin || end >= 0 && r.Offset >= end {
				continue
			}
			bytes += len(r.Value)
			if end < 0 && (len(to.records) == rowsMax || len(to.records) > 0 && bytes > bytesMax) {
				full = true
				break
			}
			to.records = append(to.records, r)
		}
		if used++; full {
			break
		}
		next = batches[i].Next
	}
	if full {
		next = to.records[len(to.records)-1].Offset + 1
	}
	if end < 0 {
		full = full || len(to.records) == rowsMax
	}
	to.needed = int64(bytes)
	s.count(to)
	return next, full
}

// count adds what the slot's memory has grown by to that of all.
func (s *slots) count(of *slot) {
	var bytes int64
	for _, m := range of.memories {
		bytes += int64(m.Size())
	}
	s.bytes.Add(bytes - of.bytes)
	of.bytes = bytes
}

// decode returns the records of batches. Where one cannot be decoded, its offsets become
// records that are marked as broken.
func (to *slot) decode(b *stream.Batches, memory *stream.Memory) []stream.Record {
	records, err := b.DecodeAll(memory)
	if err == nil {
		return records
	}
	var list []stream.Record
	for _, single := range b.Single() {
		// A memory of its own: the others of the list lie in theirs.
		records, err := single.DecodeAll(new(stream.Memory))
		if err == nil {
			list = append(list, records...)
			continue
		}
		raw := single.Raw()
		for offset := single.First; offset < min(single.Next, single.First+tables.BatchRowsMax); offset++ {
			to.block.broken[offset] = fmt.Sprintf("it lies in a batch of offsets %d to %d: %s", single.First, single.Next-1, err)
			list = append(list, stream.Record{Offset: offset, Time: raw.Time, Value: raw.Value})
			raw.Value = nil // once is enough
		}
	}
	return list
}

// pace says when the next block of a partition may begin. Over time there is one block an
// interval; what a quiet partition has saved up, burst of them at most, may begin at once.
type pace struct {
	interval time.Duration
	due      time.Time
}

// paceBurst blocks may follow each other at once after a quiet time.
const paceBurst = 3

// spend is called when a block begins.
func (p *pace) spend(now time.Time) {
	if saved := now.Add(-(paceBurst - 1) * p.interval); p.due.Before(saved) {
		p.due = saved
	}
	p.due = p.due.Add(p.interval)
}
