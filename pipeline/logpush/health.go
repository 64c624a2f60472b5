package logpush

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
)

const (
	healthInterval = time.Second      // between two writes of one job's health
	healthRepeat   = 10 * time.Second // between two writes of a failure that lasts
	healthGrace    = 2 * time.Second  // for the last write of a delivery that stops
)

// goesOn is what the end of a failure is told with.
const goesOn = "goes on: its destination takes events again, or what it refused became dead letters"

// wholeJob stands for a partition in failures that are of none.
const wholeJob = -1

// health writes what becomes of a job's uploads to its record, at most once a
// second, and always the last state. The record has one place for all partitions:
// a success clears it, so none is written while any partition fails. A failure
// that lasts is written again and again, because a runner on another machine,
// whose partitions are well, clears it.
type health struct {
	jobID  int64
	report func(context.Context, logjob.Delivery) error
	log    *slog.Logger
	wake   chan struct{} // holds one token while there is something to write

	letters      Letters // nil: nothing is refused for good
	letterLimits logjob.LetterLimits
	ledger       *ledger                    // nil: nothing is collected
	alert        func(kind, message string) // returns at once
	// recoveryDue is AlertStore's for the job. It is Run's, and nil once the answer is known or not wanted.
	recoveryDue func(context.Context) (due, fails bool, err error)

	mu      sync.Mutex
	failing map[int]logjob.Delivery // last failure of each partition that has not delivered since
	failed  bool                    // under the settings before, and nothing was delivered since
	begun   bool                    // something was delivered
	own     bool                    // something was not; the end of that is told by Succeeded
	// complete is the end of the newest time range delivered; zero once it is written.
	complete time.Time
	// notice is a loss that was not written yet: it is told once, also if a success
	// follows at once. May be nil.
	notice *logjob.Delivery
}

func newHealth(jobID int64, report func(context.Context, logjob.Delivery) error, log *slog.Logger) *health {
	return &health{jobID: jobID, report: report, log: log, wake: make(chan struct{}, 1), failing: map[int]logjob.Delivery{},
		alert: func(string, string) {}}
}

// Succeeded notes that a partition's events up to a time are delivered. It is at most a
// second after the newest event; what is later comes from a clock that is ahead, and would
// hide for as long, as what is written never goes back, how far the job has come.
func (h *health) Succeeded(partition int, until time.Time) {
	if latest := time.Now().Add(time.Second); until.After(latest) {
		until = latest
	}
	h.mu.Lock()
	_, recovered := h.failing[partition]
	delete(h.failing, partition)
	if until.After(h.complete) {
		h.complete = until
	}
	news := recovered || len(h.failing) == 0
	well := (recovered || h.failed) && len(h.failing) == 0
	h.failed, h.begun = h.failed && !well, true
	h.mu.Unlock()
	h.ledger.over(partition)
	if well {
		h.alert(AlertRecovered, goesOn)
	}
	if news {
		h.signal()
	}
}

// Failed notes that a partition cannot deliver; it stays so until it has Succeeded.
func (h *health) Failed(partition int, at time.Time, message string) {
	h.mu.Lock()
	first := len(h.failing) == 0
	h.own, h.failing[partition] = true, logjob.Delivery{JobID: h.jobID, FailedAt: at, Message: message}
	h.mu.Unlock()
	h.ledger.failed(partition, at, message)
	if first {
		h.alert(AlertFailing, message)
	}
	h.signal()
}

// Lost notes what went wrong and is over; the next success after it was written clears it.
func (h *health) Lost(at time.Time, message string) {
	h.tell(AlertLost, at, message)
}

// Refused is Lost for what went to the dead letters.
func (h *health) Refused(at time.Time, message string) {
	h.tell(AlertLetters, at, message)
}

func (h *health) tell(kind string, at time.Time, message string) {
	h.ledger.failed(wholeJob, at, message)
	h.ledger.over(wholeJob)
	h.alert(kind, message)
	h.mu.Lock()
	h.notice = &logjob.Delivery{JobID: h.jobID, FailedAt: at, Message: message}
	h.mu.Unlock()
	h.signal()
}

// isFailing reports whether the last upload of a partition failed.
func (h *health) isFailing(partition int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, failing := h.failing[partition]
	return failing
}

// hasFailed reports whether the job fails, or did under the settings before and has not
// delivered since.
func (h *health) hasFailed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed || len(h.failing) > 0
}

// Gone notes that a partition went to another runner, whose business it now is.
func (h *health) Gone(partition int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.failing, partition)
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
	repeat := time.NewTicker(healthRepeat)
	defer repeat.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case <-h.wake:
		case <-repeat.C:
		}
		if err := h.write(ctx); err != nil && ctx.Err() == nil && logged.allow(time.Now()) {
			h.log.WarnContext(ctx, "the health of a job could not be stored", "error", err)
		}
		h.recover(ctx)
		_ = stream.Sleep(ctx, healthInterval) // an early end is noticed above
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthGrace)
	defer cancel()
	if err := h.write(ctx); err != nil {
		h.log.WarnContext(ctx, "the last health of a job could not be stored", "error", err)
	}
}

// recover tells that the job goes on where a process that is gone told that it fails. An answer
// that does not come is asked for later.
func (h *health) recover(ctx context.Context) {
	h.mu.Lock()
	well := h.begun && len(h.failing) == 0
	if h.own {
		h.recoveryDue = nil
	}
	h.mu.Unlock()
	if h.recoveryDue == nil || !well {
		return
	}
	due, fails, err := h.recoveryDue(ctx)
	if err != nil || due && fails { // in another process, or that partition's next report comes soon
		return
	}
	if h.recoveryDue = nil; due {
		h.alert(AlertRecovered, goesOn)
	}
}

// write stores the state as it is; after an error it is tried again later.
func (h *health) write(ctx context.Context) error {
	for _, d := range h.state() {
		if err := h.report(ctx, d); err != nil && errs.KindOf(err) != errs.NotFound { // the job was deleted meanwhile
			h.signal()
			return err
		}
		h.written(d)
	}
	return nil
}

// state returns what is to be written, in this order: the latest of the failures
// that last, or else a success and a loss, if they are new.
func (h *health) state() (list []logjob.Delivery) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var last logjob.Delivery
	for _, d := range h.failing {
		if d.FailedAt.After(last.FailedAt) {
			last = d
		}
	}
	if len(h.failing) > 0 {
		return []logjob.Delivery{last}
	}
	if !h.complete.IsZero() {
		list = append(list, logjob.Delivery{JobID: h.jobID, CompleteUntil: h.complete})
	}
	if h.notice != nil {
		list = append(list, *h.notice)
	}
	return list
}

// written forgets what need not be written again.
func (h *health) written(d logjob.Delivery) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d.CompleteUntil.Equal(h.complete) {
		h.complete = time.Time{}
	}
	if h.notice != nil && d == *h.notice {
		h.notice = nil
	}
}
