package api

import (
	"fmt"
	"sync"
)

// Bounds of what waits for one viewer.
const (
	tailQueueMax      = 1000
	tailQueueBytesMax = 4 << 20
)

// queued is one message for a viewer.
type queued struct {
	value  []byte // of an event, or
	notice string // a sentence about the feed
}

// tailQueue holds messages for one viewer and never makes the feed wait. What comes
// when it is full is dropped; the viewer is told how much, in its place. Its
// methods are safe for concurrent use.
type tailQueue struct {
	ready chan struct{} // has a token when something may be there

	mu      sync.Mutex
	list    []queued
	bytes   int
	dropped int // since the last notice
}

func newTailQueue() *tailQueue { return &tailQueue{ready: make(chan struct{}, 1)} }

// put reports whether the message was taken.
func (q *tailQueue) put(m queued) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	size := len(m.value) + len(m.notice)
	// One message always fits, however large.
	full := len(q.list) >= tailQueueMax || len(q.list) > 0 && q.bytes+size > tailQueueBytesMax
	if full {
		q.dropped++
	} else {
		q.tellDropped()
		q.list = append(q.list, m)
		q.bytes += size
	}
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return !full
}

// take returns all that waits, oldest first.
func (q *tailQueue) take() []queued {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tellDropped()
	list := q.list
	q.list, q.bytes = nil, 0
	return list
}

func (q *tailQueue) tellDropped() {
	if q.dropped > 0 {
		q.list = append(q.list, queued{notice: fmt.Sprintf("%d events are missing here: they came faster than this connection takes them", q.dropped)})
		q.dropped = 0
	}
}
