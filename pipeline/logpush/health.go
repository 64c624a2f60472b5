package logpush

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
)

const (
	healthInterval = time.Second     // between two writes of one job's health
	healthGrace    = 2 * time.Second // for the last write of a delivery that stops
)

// health writes what becomes of a job's uploads to its record, at most once a
// second, and always the last state.
type health struct {
	jobID  int64
	report func(context.Context, logjob.Delivery) error
	log    *slog.Logger
	wake   chan struct{} // holds one token while there is something to write

	mu sync.Mutex
	// pending has the latest success, the latest failure after it, or both.
	pending []logjob.Delivery
}

func newHealth(jobID int64, report func(context.Context, logjob.Delivery) error, log *slog.Logger) *health {
	return &health{jobID: jobID, report: report, log: log, wake: make(chan struct{}, 1)}
}

// Succeeded notes that everything up to a time is delivered.
func (h *health) Succeeded(until time.Time) {
	h.mu.Lock()
	for _, d := range h.pending {
		if d.CompleteUntil.After(until) { // of another partition
			until = d.CompleteUntil
		}
	}
	h.pending = []logjob.Delivery{{JobID: h.jobID, CompleteUntil: until}}
	h.mu.Unlock()
	h.signal()
}

// Failed notes a failure.
func (h *health) Failed(at time.Time, message string) {
	h.mu.Lock()
	h.pending = slices.DeleteFunc(h.pending, func(d logjob.Delivery) bool { return d.CompleteUntil.IsZero() })
	h.pending = append(h.pending, logjob.Delivery{JobID: h.jobID, FailedAt: at, Message: message})
	h.mu.Unlock()
	h.signal()
}

func (h *health) signal() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Run writes until ctx ends, and then what is left.
func (h *health) Run(ctx context.Context) {
	logged := throttle{every: logInterval}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-h.wake:
			if err := h.write(ctx); err != nil && ctx.Err() == nil && logged.allow(time.Now()) {
				h.log.WarnContext(ctx, "the health of a job could not be stored", "error", err)
			}
			_ = sleep(ctx, healthInterval) // an early end is noticed above
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthGrace)
	defer cancel()
	if err := h.write(ctx); err != nil {
		h.log.WarnContext(ctx, "the last health of a job could not be stored", "error", err)
	}
}

// write stores what is pending; after an error the rest is tried again later,
// unless something newer came.
func (h *health) write(ctx context.Context) error {
	h.mu.Lock()
	pending := h.pending
	h.pending = nil
	h.mu.Unlock()
	for i, d := range pending {
		err := h.report(ctx, d)
		if err == nil || errs.KindOf(err) == errs.NotFound { // the job was deleted meanwhile
			continue
		}
		h.mu.Lock()
		if len(h.pending) == 0 {
			h.pending = pending[i:]
		}
		h.mu.Unlock()
		h.signal()
		return err
	}
	return nil
}
