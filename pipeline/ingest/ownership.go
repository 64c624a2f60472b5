package ingest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"tidegate/pipeline/stream"
)

// prove commits a plan. The broker takes it from the partition's owner alone, so it also
// says that until now nobody else went on; ClickHouse refuses the block when that is too
// long ago.
func (r *reader) prove(ctx context.Context, planned plan) error {
	at := r.writer.Now() // before the broker looks
	if err := r.p.Commit(ctx, planned.Begin, newMark(planned, r.newest).String()); err != nil {
		return fmt.Errorf("plan block %d to %d: %w", planned.Begin, planned.End, err)
	}
	r.provenAt = at
	return nil
}

// stamp gives a block the time of a proof. One serves for one attempt: after an insert
// that took long, or was refused because of its time, only a new one would do.
func (r *reader) stamp(ctx context.Context, planned plan, b *block) error {
	if r.provenAt.IsZero() {
		if err := r.prove(ctx, planned); err != nil {
			return err
		}
	}
	b.events.ProvenAt, b.quarantine.ProvenAt, b.deleted.ProvenAt = r.provenAt, r.provenAt, r.provenAt
	r.provenAt = time.Time{}
	return nil
}

// openInterval is how often a process looks at which blocks of the group are open.
const openInterval = 2 * time.Second

// openBlocks are the blocks of all partitions that are planned and not committed. One of
// them may be half stored, and ClickHouse must remember it until it is repeated, by
// whomever. So nobody goes on while one stays open as many others go by.
type openBlocks struct {
	mu      sync.Mutex
	readers int   // partitions of this process
	settled int64 // blocks of this process, ever
	looked  time.Time
	known   int               // partitions of which the group has a commit
	open    map[int]openBlock // by partition
}

// openBlock is one, and how many blocks this process had settled when it was first seen.
type openBlock struct{ begin, settled int64 }

// join counts a partition of this process until leave.
func (o *openBlocks) join() (leave func()) {
	add := func(n int) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.readers += n
	}
	add(1)
	return func() { add(-1) }
}

func (o *openBlocks) settle() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.settled++
}

// due reports whether it is time to look again; then the caller does and calls see.
func (o *openBlocks) due() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.looked) < openInterval {
		return false
	}
	o.looked = time.Now()
	return true
}

// see takes the metadata of the group's commits by partition.
func (o *openBlocks) see(marks map[int]string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := o.open
	o.open, o.known = map[int]openBlock{}, len(marks)
	for partition, metadata := range marks {
		m, err := parseMark(metadata)
		if err != nil || m.plan == (plan{}) {
			continue
		}
		b, seen := before[partition]
		if !seen || b.begin != m.Begin {
			b = openBlock{m.Begin, o.settled}
		}
		o.open[partition] = b
	}
}

// overdue returns a partition other than own whose block has been open while about limit
// others were settled. Each process counts its own and stops at its share, by partitions,
// so that all together stop at limit, whoever of them is the busiest. A process that is
// started meanwhile begins to count anew.
func (o *openBlocks) overdue(own int, limit int64) (partition int, found bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for partition, b := range o.open {
		if partition != own && (o.settled-b.settled)*int64(o.known) >= limit*int64(max(1, o.readers)) {
			return partition, true
		}
	}
	return 0, false
}

// hold waits while another partition's block is overdue.
func (r *reader) hold(ctx context.Context) error {
	for {
		if r.open.due() {
			if marks, err := r.p.Marks(ctx); err == nil { // without Kafka no block is planned either
				r.open.see(marks)
			}
		}
		partition, overdue := r.open.overdue(r.p.ID(), r.cfg.OpenBlocksMax)
		if !overdue {
			return ctx.Err()
		}
		r.metrics.failed(ctx, "hold")
		if now := time.Now(); now.Sub(r.logged) >= logInterval {
			r.logged = now
			r.log.Error("waiting for another partition: ClickHouse refuses its block, or nobody reads it, and would forget the block if others went on", "waits_for", partition)
		}
		r.lookAgain(ctx)
		if err := stream.Sleep(ctx, openInterval); err != nil {
			return err
		}
	}
}
