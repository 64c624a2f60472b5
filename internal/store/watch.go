package store

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// pollInterval bounds how late this process sees a change that another one made.
	pollInterval = 200 * time.Millisecond
	// pollTimeout bounds one look, and how long none may succeed before waiters are told:
	// ten looks, so that one that is slow or refused says nothing.
	pollTimeout = 10 * pollInterval
)

// watch tells waiters when the revision grows: at once for a write of this
// process, after a poll for one of another. All waiters share the one poll. It also
// tells them that it does not know any more, so that nobody takes its silence for
// "nothing new".
type watch struct {
	read func(context.Context) (int64, error)
	log  *slog.Logger

	cancel context.CancelFunc
	done   chan struct{} // closed when the poll has ended

	mu      sync.Mutex
	current int64         // newest revision seen; only grows
	changed chan struct{} // closed and replaced when current grows
	blind   error         // why the database does not tell; nil while it does
	blinded chan struct{} // closed and replaced when blind begins
}

func startWatch(current int64, read func(context.Context) (int64, error), log *slog.Logger) *watch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{
		read: read, log: log,
		cancel: cancel, done: make(chan struct{}),
		current: current, changed: make(chan struct{}), blinded: make(chan struct{}),
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

// sight returns a channel that is closed when the newest revision is known no more, and
// why it is not known; nil while it is.
func (w *watch) sight() (<-chan struct{}, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.blinded, w.blind
}

// see notes whether the database tells.
func (w *watch) see(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && w.blind == nil {
		close(w.blinded)
		w.blinded = make(chan struct{})
	}
	w.blind = err
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
	failing, seen := false, time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		revision, err := w.look(ctx)
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
			seen = time.Now()
			w.see(nil)
			w.advance(revision)
		} else if time.Since(seen) >= pollTimeout {
			w.see(err)
		}
	}
}

// look asks once. A database that is cut off does not refuse, it says nothing.
func (w *watch) look(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	return w.read(ctx)
}
