package store

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// pollInterval bounds how late this process sees a change that another one made.
const pollInterval = 200 * time.Millisecond

// watch tells waiters when the revision grows: at once for a write of this
// process, after a poll for one of another. All waiters share the one poll.
type watch struct {
	read func(context.Context) (int64, error)
	log  *slog.Logger

	cancel context.CancelFunc
	done   chan struct{} // closed when the poll has ended

	mu      sync.Mutex
	current int64         // newest revision seen; only grows
	changed chan struct{} // closed and replaced when current grows
}

func startWatch(current int64, read func(context.Context) (int64, error), log *slog.Logger) *watch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{
		read: read, log: log,
		cancel: cancel, done: make(chan struct{}),
		current: current, changed: make(chan struct{}),
	}
	go w.poll(ctx)
	return w
}

func (w *watch) stop() {
	w.cancel()
	<-w.done
}

// state returns the newest revision seen and a channel that is closed when there
// is a newer one.
func (w *watch) state() (int64, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current, w.changed
}

func (w *watch) advance(revision int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if revision > w.current {
		w.current = revision
		close(w.changed)
		w.changed = make(chan struct{})
	}
}

func (w *watch) poll(ctx context.Context) {
	defer close(w.done)
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		revision, err := w.read(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing: // once an outage, not five times a second
			w.log.WarnContext(ctx, "revision poll failing", "error", err)
		case err == nil && failing:
			w.log.InfoContext(ctx, "revision poll recovered", "revision", revision)
		}
		failing = err != nil
		if err == nil {
			w.advance(revision)
		}
	}
}
