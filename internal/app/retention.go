package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
)

const (
	// historySweepInterval is how long a row may outlast its retention, which is in days.
	historySweepInterval = time.Hour
	// historySweepPause lets others write between two parts of a sweep: the first one after an
	// upgrade may have years to remove.
	historySweepPause = 50 * time.Millisecond
	// historyLease lets one of several processes sweep. Two would delete the same rows, each
	// perhaps in another order, and wait for each other. Who has it may be killed: the next
	// sweep takes it over after historyLeaseTTL.
	historyLease    = "retention"
	historyLeaseTTL = 15 * time.Second
)

// history is a table of the database whose rows are kept for a number of days.
type history struct {
	table string
	days  int // 0: for ever
	// sweep removes the oldest rows from before a time, a bounded number, and returns how many.
	sweep func(ctx context.Context, before time.Time) (removed int64, err error)
}

// addRetention adds what removes old entries of the audit log, and old rollback decisions.
func (p *process) addRetention() error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("name this process in the lease: %w", err)
	}
	holder := host + "/" + uuid.NewString()
	p.services = append(p.services, service{"retention", stageEdge, func(ctx context.Context) error {
		p.keepSwept(ctx, holder)
		return nil
	}})
	return nil
}

// keepSwept logs a failing database once an outage.
func (p *process) keepSwept(ctx context.Context, holder string) {
	ticker := time.NewTicker(historySweepInterval)
	defer ticker.Stop()
	failing := false
	for {
		err := p.sweepHistory(ctx, holder)
		if err != nil && !failing && ctx.Err() == nil {
			p.log.WarnContext(ctx, "what is older than its retention could not be removed, trying again", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// sweepHistory removes what is too old by now, unless another process does.
func (p *process) sweepHistory(ctx context.Context, holder string) error {
	var failed []error
	for _, h := range []history{
		{"audit_log", p.config.API.AuditDays, p.store.SweepAuditLog},
		{"decisions", p.config.API.DecisionDays, p.store.SweepDecisions},
	} {
		if h.days == 0 {
			continue
		}
		before := time.Now().AddDate(0, 0, -h.days)
		removed, err := p.sweepTable(ctx, h, before, holder)
		if removed > 0 {
			p.log.InfoContext(ctx, "removed what is older than its retention", "table", h.table, "count", removed, "before", before)
		}
		failed = append(failed, err)
	}
	// ctx may have ended. A restore takes a lease for somebody who works on the database.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), historyLeaseTTL)
	defer cancel()
	return errors.Join(append(failed, p.store.ReleaseLease(ctx, historyLease, holder))...)
}

// sweepTable takes the lease anew for each part: all of it may take longer than that holds.
func (p *process) sweepTable(ctx context.Context, h history, before time.Time, holder string) (removed int64, err error) {
	for {
		held, err := p.store.AcquireLease(ctx, historyLease, holder, historyLeaseTTL)
		if err != nil || !held {
			return removed, err
		}
		n, err := h.sweep(ctx, before)
		removed += n
		if err != nil || n == 0 {
			return removed, err
		}
		select {
		case <-ctx.Done():
			return removed, ctx.Err()
		case <-time.After(historySweepPause):
		}
	}
}
