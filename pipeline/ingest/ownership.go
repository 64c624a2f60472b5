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

// All readers together settle no more than this, so that ClickHouse still remembers a block
// when it comes as late as it is taken: internal/clickhouse/layout.go has the arithmetic.
const (
	entriesPerSecond = 300
	entriesBurst     = 30 * time.Second // of that may be settled at once
)

// openBlocks are the blocks of all partitions that are planned and not committed. One of
// them may be half stored, and ClickHouse must remember it until it is repeated, by
// whomever. So nobody goes on while one stays open as many others go by, and none go by too
// fast. Each process counts its own and keeps to its share, by partitions, so that all
// together keep to the whole, whoever of them is the busiest. What is counted are entries of
// what ClickHouse remembers, of which a block makes one or several (tables.Events.Entries).
type openBlocks struct {
	mu      sync.Mutex
	readers int       // partitions of this process
	settled int64     // entries of this process, ever
	pace    time.Time // when as many are settled as may be
	looked  time.Time
	known   int               // partitions of which the group has a commit
	open    map[int]openBlock // by partition
}

// openBlock is one, and how many entries this process had settled when it was first seen.
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

func (o *openBlocks) settle(entries int64, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.settled += entries
	if saved := now.Add(-entriesBurst); o.pace.Before(saved) {
		o.pace = saved
	}
	share := float64(max(1, o.readers)) / float64(max(1, o.readers, o.known))
	o.pace = o.pace.Add(time.Duration(float64(entries) * float64(time.Second) / entriesPerSecond / share))
}

// tooFast returns how long no further block may begin.
func (o *openBlocks) tooFast(now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return max(0, o.pace.Sub(now))
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
// entries of others were settled. A process that is started meanwhile begins to count anew.
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

// hold waits while blocks go by too fast, or another partition's is overdue.
func (r *reader) hold(ctx context.Context) error {
	for {
		if r.open.due() {
			if marks, err := r.p.Marks(ctx); err == nil { // without Kafka no block is planned either
				r.open.see(marks)
			}
		}
		partition, overdue := r.open.overdue(r.p.ID(), r.cfg.OpenEntriesMax)
		wait := min(r.open.tooFast(time.Now()), openInterval)
		switch {
		case !overdue && wait == 0:
			return ctx.Err()
		case !overdue:
			r.metrics.waited(ctx, waitRemembered, wait)
		default:
			wait = openInterval
			r.metrics.failed(ctx, "hold")
		}
		if now := time.Now(); overdue && now.Sub(r.logged) >= logInterval {
			r.logged = now
			r.log.Error("waiting for another partition: ClickHouse refuses its block, or nobody reads it, and would forget the block if others went on", "waits_for", partition)
		}
		r.lookAgain(ctx)
		if err := stream.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}
