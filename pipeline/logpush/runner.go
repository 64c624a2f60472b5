package logpush

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
)

// runner delivers one job under one revision of its settings. It stops in two
// stages: first no new work begins and batches in hand are finished; then, after
// a while, what still hangs is broken off.
type runner struct {
	job     logjob.Job
	manager *Manager
	log     *slog.Logger
	health  *health
	metrics *jobMetrics

	stopping context.Context // first stage
	stop     context.CancelFunc
	done     chan struct{} // closed when everything is over
	active   active
	member   *member // nil without a pulse
}

// start runs j, which failed until now or not, until ctx ends or stop is called. When it
// is over it closes done and puts a token into ended, if there is none.
func (m *Manager) start(ctx context.Context, j logjob.Job, failed bool, ended chan<- struct{}) *runner {
	log := m.log.With("job", j.ID)
	r := &runner{
		job: j, manager: m, log: log, metrics: m.metrics.of(j.ID),
		health: newHealth(j.ID, m.jobs.ReportDelivery, log),
		done:   make(chan struct{}),
		active: active{idle: make(chan struct{})},
	}
	r.health.letters, r.health.letterLimits, r.health.failed = m.config.Letters, m.config.LetterLimits, failed
	r.health.alert = func(kind, message string) { m.alerts.send(j, kind, message, time.Now()) }
	if m.alerts != nil && j.LastError != nil { // a success clears it, whoever has it
		r.health.recoveryDue = func(ctx context.Context) (due, fails bool, err error) {
			return m.alerts.store.RecoveryDue(ctx, j.ID, AlertFailing, AlertRecovered)
		}
	}
	if m.pulse != nil {
		r.metrics.ledger = newLedger(j)
		r.health.ledger = r.metrics.ledger
		r.member = &member{job: j, ledger: r.metrics.ledger, lag: m.lags.of(j.ID), alerts: m.alerts, partitions: map[int]stream.Partition{}}
		m.pulse.join(r.member)
	}
	r.stopping, r.stop = context.WithCancel(ctx)
	go func() {
		r.run(ctx)
		close(r.done)
		select {
		case ended <- struct{}{}:
		default:
		}
	}()
	return r
}

func (r *runner) run(ctx context.Context) {
	var helpers sync.WaitGroup
	if r.member != nil {
		defer r.member.leave()
	}
	defer helpers.Wait()
	reporting, stopReporting := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReporting() // after the last delivery had its say
	helpers.Go(func() { r.health.Run(reporting) })
	working, breakOff := context.WithCancel(context.WithoutCancel(ctx))
	defer breakOff()
	defer r.stop()
	helpers.Go(func() {
		<-r.stopping.Done()
		r.drain(ctx)
		breakOff()
	})

	settings, err := newSettings(r.job, r.manager.sinks, r.manager.config)
	if err != nil {
		// Only a change of the job or of our configuration helps, and either
		// starts another runner.
		r.metrics.fail(ctx, stageOpen)
		r.health.Failed(wholeJob, time.Now(), fmt.Sprintf("error opening the destination: %v", err))
		r.health.ledger.cannotRun(time.Now())
		r.log.ErrorContext(ctx, "a job cannot run", "error", err)
		<-working.Done()
		return
	}
	settings.deleted = r.manager.deleted
	r.log.InfoContext(ctx, "a job begins", "revision", r.job.Revision, "destination", logjob.MaskDestination(r.job.DestinationConf))
	group := r.manager.groups(groupID(r.job.ID))
	err = group.Run(working, func(ctx context.Context, p stream.Partition) error { return r.handle(ctx, p, settings) })
	if err != nil {
		r.health.Failed(wholeJob, time.Now(), "error reading events: the job is not running")
		r.log.ErrorContext(ctx, "a job's consumer group failed", "error", err)
		<-working.Done()
	}
	r.log.InfoContext(ctx, "a job ended", "revision", r.job.Revision)
}

// groupID names the consumer group of a job's deliveries.
func groupID(jobID int64) string { return fmt.Sprintf("tidegate-logpush-%d", jobID) }

// drain waits until the batches in hand are finished, for a while.
func (r *runner) drain(ctx context.Context) {
	r.active.close()
	select {
	case <-r.active.idle:
	case <-time.After(r.manager.config.StopGrace):
		r.log.WarnContext(ctx, "an upload was broken off: it will be repeated", "grace_ms", r.manager.config.StopGrace.Milliseconds())
	}
}

// handle delivers one partition; it returns when the partition is taken away.
func (r *runner) handle(ctx context.Context, p stream.Partition, s *settings) error {
	if r.active.enter() {
		if r.member != nil {
			defer r.member.has(p)()
		}
		d := newDelivery(r.stopping, s, p, r.manager.shared, r.health, r.metrics, r.log)
		err := d.run(ctx)
		r.active.leave()
		if ctx.Err() != nil && r.stopping.Err() == nil {
			r.health.Gone(p.ID())
		}
		if err != nil {
			return err
		}
	}
	// Stopping: the second stage takes the partition away.
	<-ctx.Done()
	return nil
}

// active counts the deliveries that still run, and lets no more begin once it is
// closed; idle is closed when it is closed and none is left.
type active struct {
	idle chan struct{}

	mu     sync.Mutex
	count  int
	closed bool
}

func (a *active) enter() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.count++
	return true
}

func (a *active) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count--
	if a.closed && a.count == 0 {
		close(a.idle)
	}
}

func (a *active) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.count == 0 {
		close(a.idle)
	}
}
