package runtime

import (
	"sync"
	"time"
)

// handOverPause is how long a version with Durable Objects still takes requests
// after another has been put in its place: the gateway's table is replaced right
// after the backends were told, and what was picked from the old one arrives within
// this.
const handOverPause = 250 * time.Millisecond

// turns lets one version of a script at a time have the storage of its Durable
// Objects, in the order in which they asked. It may be used concurrently.
type turns struct {
	mu    sync.Mutex
	queue []*turn // the first one has it
}

// turn is a place in the queue.
type turn struct {
	turns *turns
	come  chan struct{} // closed when it has come
	// wanted is told when another joins the queue behind the first one, and over once
	// the turn has ended, if it had come.
	wanted, over func()
}

// ask joins the queue. The functions must not call back.
func (t *turns) ask(wanted, over func()) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := &turn{turns: t, come: make(chan struct{}), wanted: wanted, over: over}
	t.queue = append(t.queue, mine)
	if len(t.queue) == 1 {
		close(mine.come)
	} else {
		t.queue[0].wanted()
	}
	return mine
}

// end leaves the queue, wherever the turn was in it. A second call, and one of nil,
// do nothing.
func (m *turn) end() {
	if m == nil {
		return
	}
	t := m.turns
	t.mu.Lock()
	had := false
	for i, other := range t.queue {
		if other != m {
			continue
		}
		had = i == 0
		t.queue = append(t.queue[:i:i], t.queue[i+1:]...)
		if had && len(t.queue) > 0 {
			close(t.queue[0].come)
		}
		break
	}
	t.mu.Unlock()
	if had {
		m.over() // which may take locks that are held where turns are looked at
	}
}

// contended reports whether somebody waits.
func (t *turns) contended() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.queue) > 1
}

// taken reports whether somebody has it, or waits for it.
func (t *turns) taken() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.queue) > 0
}
