package logpush

import (
	"context"
	"fmt"
	"sync"

	"tidegate/pipeline/stream"
)

// commits stores the marks of one delivery, one after the other, while the delivery
// goes on: a broker makes each of them durable before it answers, which on a busy disk
// takes longer than building a window. A mark that waits for the one before it is
// replaced by the next one, which says all that it said.
type commits struct {
	// tenure ends when the partition is somebody else's; it is set before the first begin. A
	// commit under way is not given up before, also when its delivery fails: the next one of
	// the same tenure would read a mark that a slow broker then undoes.
	tenure    context.Context
	partition stream.Partition
	stored    func(offset int64) // called after each that the broker has
	broken    chan struct{}      // closed after the first that failed; no more are stored then
	running   sync.WaitGroup

	mu      sync.Mutex
	waiting *commit // to be stored next; nil: none
	last    *commit // that was begun
	busy    bool    // one is on its way
	failure error
}

// commit is one on its way. Err is there when over is closed: it is nil when the group
// has this mark or a later one.
type commit struct {
	offset   int64
	metadata string
	over     chan struct{}
	err      error
}

func newCommits(p stream.Partition, stored func(offset int64)) *commits {
	return &commits{partition: p, stored: stored, broken: make(chan struct{})}
}

// begin has a mark stored and does not wait for it. It is called by one goroutine.
func (c *commits) begin(offset int64, metadata string) *commit {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		c.waiting = &commit{over: make(chan struct{})}
		c.last = c.waiting
	}
	c.waiting.offset, c.waiting.metadata = offset, metadata
	if !c.busy {
		c.busy = true
		c.running.Go(c.run)
	}
	return c.waiting
}

// run stores what waits until nothing does.
func (c *commits) run() {
	for {
		c.mu.Lock()
		next := c.waiting
		c.waiting, c.busy = nil, next != nil
		c.mu.Unlock()
		if next == nil {
			return
		}
		next.err = c.store(next)
		close(next.over)
	}
}

// store returns the first failure from then on: what the group has is not known any more.
func (c *commits) store(next *commit) error {
	if c.failure != nil { // only run writes it
		return c.failure
	}
	if err := c.partition.Commit(c.tenure, next.offset, next.metadata); err != nil {
		c.failure = fmt.Errorf("store how far a job is delivered: %w", err)
		close(c.broken)
		return c.failure
	}
	c.stored(next.offset)
	return nil
}

// wait returns when nothing is on its way any more, or after the first failure.
func (c *commits) wait(ctx context.Context) error {
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	if last == nil {
		return nil
	}
	return last.wait(ctx)
}

// wait returns when the group has the mark, or a later one, or never will.
func (c *commit) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.over:
		return c.err
	}
}
