package logpush

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
)

const (
	pulseInterval = 10 * time.Second // between two reports of all jobs together
	pulseGrace    = 2 * time.Second  // for the last one
	sweepInterval = time.Hour
	// tryBeforeDisabling is how long this process itself must have failed: after a
	// night in which it did not run, the first failure is no reason.
	tryBeforeDisabling = 10 * time.Minute
	// endsKept of a partition are a day at one in pulseInterval.
	endsKept = 24 * 60 * 6
)

// HealthStore is where health is kept, for all processes together. Its methods are
// safe for concurrent use.
type HealthStore interface {
	// ReportHealth adds what this process tells, and returns since when no upload of
	// each job has succeeded anywhere, for jobs of which that is so.
	ReportHealth(ctx context.Context, reports []logjob.HealthReport) (failing map[int64]time.Time, err error)
	// DisableFailingJob switches a job off, unless it was changed or has delivered
	// since it was read; then it reports false.
	DisableFailingJob(ctx context.Context, id, revision int64, since time.Time, message string) (bool, error)
	// SweepHealth removes what is too old.
	SweepHealth(ctx context.Context) error
}

// pulse reports the health of all jobs of a process together, and disables those
// that have failed everywhere for too long. Its fields but members belong to Run.
type pulse struct {
	store   HealthStore
	disable time.Duration // 0: never
	log     *slog.Logger
	now     func() time.Time

	mu      sync.Mutex
	members map[*member]bool

	ends     map[int][]endAt // of partitions, oldest first
	failedOn map[*member]time.Time
	sweptAt  time.Time
}

// member is one job's delivery.
type member struct {
	job    logjob.Job
	ledger *ledger
	lag    *lagGauge
	alerts *alerter

	mu         sync.Mutex
	partitions map[int]stream.Partition
	left       bool // it is over; this is its last report
}

// endAt is where a partition ended at a time: what lies before was written before.
type endAt struct {
	next int64
	at   time.Time
}

func newPulse(store HealthStore, disable time.Duration, log *slog.Logger) *pulse {
	return &pulse{store: store, disable: disable, log: log, now: time.Now, members: map[*member]bool{},
		ends: map[int][]endAt{}, failedOn: map[*member]time.Time{}}
}

func (p *pulse) join(m *member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members[m] = true
}

// leave makes the next report the member's last one.
func (m *member) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left = true
}

// has notes that a partition is the member's until the returned function is called.
func (m *member) has(p stream.Partition) (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.partitions[p.ID()] = p
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.partitions, p.ID())
		m.ledger.gone(p.ID())
	}
}

// Run reports until ctx ends, and then once more.
func (p *pulse) Run(ctx context.Context) {
	ticker := time.NewTicker(pulseInterval)
	defer ticker.Stop()
	logged := throttle{every: logInterval}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			if err := p.step(ctx); err != nil && ctx.Err() == nil && logged.allow(p.now()) {
				p.log.WarnContext(ctx, "the health of jobs could not be reported", "error", err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pulseGrace)
	defer cancel()
	if err := p.step(ctx); err != nil {
		p.log.WarnContext(ctx, "the last health of jobs could not be reported", "error", err)
	}
}

// step reports once.
func (p *pulse) step(ctx context.Context) error {
	now := p.now()
	members, reports := p.collect(ctx, now)
	failing, err := p.store.ReportHealth(ctx, reports)
	if err != nil {
		for i, m := range members {
			m.ledger.untake(reports[i])
		}
		return err
	}
	for i, m := range members {
		m.lag.set(reports[i], failing[m.job.ID])
		if err := p.judge(ctx, now, m, reports[i], failing[m.job.ID]); err != nil {
			return err
		}
		if m.isOver() {
			p.mu.Lock()
			delete(p.members, m)
			p.mu.Unlock()
			delete(p.failedOn, m)
			m.lag.end()
		}
	}
	if now.Sub(p.sweptAt) < sweepInterval {
		return nil
	}
	p.sweptAt = now
	return p.store.SweepHealth(ctx)
}

func (m *member) isOver() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.left
}

// collect takes the reports of all members, and looks up where partitions end.
func (p *pulse) collect(ctx context.Context, now time.Time) ([]*member, []logjob.HealthReport) {
	p.mu.Lock()
	var members []*member
	for m := range p.members {
		members = append(members, m)
	}
	p.mu.Unlock()
	slices.SortFunc(members, func(a, b *member) int { return cmp.Compare(a.job.ID, b.job.ID) }) // rows are locked in one order everywhere
	seen := map[int]int64{}
	var reports []logjob.HealthReport
	for _, m := range members {
		r := m.ledger.take(m.job.ID, now)
		r.Revision = m.job.Revision
		known := r.Partitions[:0]
		for _, one := range r.Partitions {
			if next, ok := p.end(ctx, now, m, one.Partition, seen); ok {
				one.Next = max(next, one.Committed)
				one.OldestOn = p.oldest(one)
				known = append(known, one)
			}
		}
		r.Partitions = known
		reports = append(reports, r)
	}
	return members, reports
}

// end returns where a partition ends, which is asked once for all jobs.
func (p *pulse) end(ctx context.Context, now time.Time, m *member, id int, seen map[int]int64) (int64, bool) {
	if next, ok := seen[id]; ok {
		return next, next >= 0
	}
	m.mu.Lock()
	partition := m.partitions[id]
	m.mu.Unlock()
	if partition == nil {
		return 0, false
	}
	ctx, cancel := context.WithTimeout(ctx, pulseGrace)
	defer cancel()
	_, next, err := partition.Bounds(ctx)
	if err != nil { // the broker is away: this time nothing is known
		seen[id] = -1
		return 0, false
	}
	seen[id] = next
	ends := p.ends[id]
	if n := len(ends); n > 0 && next < ends[n-1].next { // the partition lost its end
		ends = nil
	}
	ends = append(ends, endAt{next, now})
	p.ends[id] = ends[max(len(ends)-endsKept, 0):]
	return next, true
}

// oldest returns when the oldest record was written that is not delivered, and zero
// where that is unknown or there is none. It is right to one pulse, on the safe side.
func (p *pulse) oldest(one logjob.PartitionHealth) time.Time {
	if one.Lag() == 0 {
		return time.Time{}
	}
	ends := p.ends[one.Partition]
	i, _ := slices.BinarySearchFunc(ends, one.Committed+1, func(e endAt, offset int64) int { return cmp.Compare(e.next, offset) })
	if i == 0 || i == len(ends) { // it was written before we looked
		return one.OldestOn
	}
	if at := ends[i-1].at; one.OldestOn.IsZero() || at.Before(one.OldestOn) {
		return at
	}
	return one.OldestOn
}

// judge disables a job of which nothing was delivered for too long, here and elsewhere.
func (p *pulse) judge(ctx context.Context, now time.Time, m *member, r logjob.HealthReport, since time.Time) error {
	if r.FailingSince.IsZero() {
		delete(p.failedOn, m)
		return nil
	}
	if p.failedOn[m].IsZero() {
		p.failedOn[m] = now
	}
	if p.disable == 0 || since.IsZero() || now.Sub(since) < p.disable || now.Sub(p.failedOn[m]) < min(p.disable, tryBeforeDisabling) {
		return nil
	}
	last := ""
	for _, f := range r.Failures {
		last = f.Message
	}
	message := fmt.Sprintf("disabled at %s: no upload has succeeded since %s; the last failure was: %s. "+
		"Mend it and switch the job on again; POST /logpush/jobs/%d/replays sends what happened since %s, as far as it is kept",
		now.UTC().Format(time.RFC3339), since.UTC().Format(time.RFC3339), last, m.job.ID, since.UTC().Format(time.RFC3339))
	disabled, err := p.store.DisableFailingJob(ctx, m.job.ID, m.job.Revision, since, message)
	if err != nil || !disabled {
		return err
	}
	p.log.ErrorContext(ctx, "a job was disabled", "job", m.job.ID, "reason", message)
	m.alerts.send(m.job, AlertDisabled, message, now)
	return nil
}
