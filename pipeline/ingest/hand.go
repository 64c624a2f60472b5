package ingest

import (
	"context"
	"sync"
	"time"

	"tidegate/pipeline/stream"
)

// hand is what was fetched of a partition and is not settled yet, as Kafka holds it. One
// goroutine fills it while another makes blocks of it.
type hand struct {
	limits handLimits

	mu      sync.Mutex
	batches []stream.Batches // in order; the first may begin before position
	bytes   int64
	// position is the offset behind the last settled block, from which the next begins.
	position int64
	since    time.Time     // when the oldest of what is in no block yet was fetched, or became so
	ended    bool          // nothing more will be fetched
	changed  chan struct{} // gets a token when something above has changed; for who makes blocks
	taken    chan struct{} // the same; for who fetches
}

// handLimits say when there is enough in a hand.
type handLimits struct {
	rows  int64        // of a block
	share func() int64 // of the process's memory, in bytes
	held  func(bytes int64)
	// waited is told how long nothing was fetched because the hand was full.
	waited func(time.Duration)
}

func newHand(limits handLimits) *hand {
	return &hand{limits: limits, position: -1, changed: make(chan struct{}, 1), taken: make(chan struct{}, 1)}
}

// signal leaves a token, if there is none.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// fill fetches until ctx ends or a fetch fails, and returns its error. It waits while
// the hand has its share of the memory, or two blocks: the one that is being stored, and
// the next one. An empty hand may always fetch once.
func (h *hand) fill(ctx context.Context, p stream.Partition) error {
	defer h.end()
	for {
		if err := h.awaitRoom(ctx); err != nil {
			return err
		}
		batches, err := p.FetchBatches(ctx)
		if err != nil {
			return err
		}
		h.put(batches)
	}
}

func (h *hand) awaitRoom(ctx context.Context) error {
	if h.hasRoom() {
		return nil
	}
	begun := time.Now()
	defer func() { h.limits.waited(time.Since(begun)) }()
	for !h.hasRoom() {
		select {
		case <-h.taken:
		case <-time.After(shareInterval): // other readers may have come or gone
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// shareInterval is how often a full hand looks whether its share has changed.
const shareInterval = time.Second

func (h *hand) hasRoom() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.batches) == 0 || h.bytes < h.limits.share() && h.rowsLocked() < 2*h.limits.rows
}

// rowsLocked is how many offsets there are, which is no less than records.
func (h *hand) rowsLocked() int64 {
	if len(h.batches) == 0 {
		return 0
	}
	return h.batches[len(h.batches)-1].Next - max(h.position, h.batches[0].First)
}

func (h *hand) put(batches []stream.Batches) {
	var bytes int64
	for i := range batches {
		bytes += int64(batches[i].Size())
	}
	h.mu.Lock()
	if len(h.batches) == 0 || h.since.IsZero() {
		h.since = time.Now()
	}
	h.batches = append(h.batches, batches...)
	h.bytes += bytes
	h.mu.Unlock()
	h.limits.held(bytes)
	signal(h.changed)
}

func (h *hand) end() {
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	signal(h.changed)
}

// begin makes the hand ready for another fill.
func (h *hand) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = false
}

// state tells whether there is anything in the hand, or all that there will be, since
// when, and whether it is a block's worth.
func (h *hand) state() (some, enough, ended bool, since time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	some = len(h.batches) > 0
	return some, some && (h.rowsLocked() >= h.limits.rows || h.bytes >= h.limits.share()/2), h.ended, h.since
}

// list returns what is in the hand. It stays there until it is settled.
func (h *hand) list() (batches []stream.Batches, position int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.batches, h.position
}

// settled lets go of what lies before offset.
func (h *hand) settled(offset int64) {
	h.mu.Lock()
	n, bytes := 0, int64(0)
	for n < len(h.batches) && h.batches[n].Next <= offset {
		bytes += int64(h.batches[n].Size())
		n++
	}
	// Not in place: list was given away.
	h.batches = append([]stream.Batches(nil), h.batches[n:]...)
	h.bytes -= bytes
	h.position = offset
	h.since = time.Now()
	h.mu.Unlock()
	h.limits.held(-bytes)
	signal(h.taken)
}

// drop lets go of everything.
func (h *hand) drop() {
	h.mu.Lock()
	bytes := h.bytes
	h.batches, h.bytes = nil, 0
	h.mu.Unlock()
	h.limits.held(-bytes)
}
