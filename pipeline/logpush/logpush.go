// Package logpush delivers trace events to the destinations of Logpush jobs:
// filter, sample, select fields, format, batch, compress, upload, commit.
//
// Each enabled job is a consumer group of its own, so that a destination that is
// away delays nobody else. Within a job each partition has one loop (delivery),
// which keeps the order of its events. Delivery is at least once: a batch is
// committed after its upload, and a repeat has the same name and content.
package logpush

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
)

// Config of the service.
type Config struct {
	// DefaultInterval closes the batches of jobs that set no interval. 30 s when
	// zero, Logpush's own default.
	DefaultInterval time.Duration
	// PollInterval is how often changes of the jobs are looked for. 1 s when zero.
	PollInterval time.Duration
	// StopGrace is how long batches in hand may take when a job or the service
	// stops. 5 s when zero.
	StopGrace time.Duration
	// Parallel is how many uploads one partition of one job may have under way, at
	// most 16. 4 when zero.
	Parallel int
	// MemoryBytes bounds what is held of events: three quarters of it in batches,
	// a quarter in the cache of records. 512 MiB when zero.
	MemoryBytes int64

	// Deletions are left out; nil: there are none.
	Deletions Deletions
	// Letters keeps what destinations refuse for good; nil: it is tried again for ever.
	Letters Letters
	// LetterLimits of each job.
	LetterLimits logjob.LetterLimits
	// Health is told what becomes of uploads; nil: nobody is.
	Health HealthStore
	// DisableAfter is how long a job may fail without one success, while there is
	// something to upload. Zero: for ever. It needs Health.
	DisableAfter time.Duration
	// Alerts knows who is told of failures; nil: nobody is. AlertClient is what they
	// are told with, and AlertEvery the least time between two of one job and type.
	Alerts      AlertStore
	AlertClient *http.Client
	AlertEvery  time.Duration
}

// What Config may ask for.
const (
	ParallelMax    = plansMax
	MemoryBytesMin = 32 << 20
)

// Jobs is where the jobs are kept. Its methods are safe for concurrent use.
type Jobs interface {
	// Jobs returns all jobs, enabled or not.
	Jobs(ctx context.Context) ([]logjob.Job, error)
	// ReportDelivery stores what became of an upload: a success clears the last
	// error and raises LastComplete, which never goes back. A job that is gone is
	// an errs.NotFound error.
	ReportDelivery(ctx context.Context, d logjob.Delivery) error
}

// Group is one member of a consumer group of the event topic.
type Group interface {
	// Run runs handler for the partitions that this member is given, until ctx
	// ends and every handler has returned.
	Run(ctx context.Context, handler stream.Handler) error
}

// Manager runs the deliveries of all jobs. Several managers, on several machines,
// share the partitions of each job.
type Manager struct {
	config  Config
	jobs    Jobs
	sinks   Sinks
	groups  func(groupID string) Group
	shared  *shared
	log     *slog.Logger
	metrics *metrics
	deleted *deleted
	lags    *lags
	pulse   *pulse   // nil without Config.Health
	alerts  *alerter // nil without Config.Alerts
}

// New returns a manager; groups makes this process a member of a consumer group,
// and reader reads the topic for all of them.
func New(config Config, jobs Jobs, sinks Sinks, groups func(groupID string) Group, reader Reader, log *slog.Logger) (*Manager, error) {
	if config.DefaultInterval == 0 {
		config.DefaultInterval = 30 * time.Second
	}
	if config.PollInterval == 0 {
		config.PollInterval = time.Second
	}
	if config.StopGrace == 0 {
		config.StopGrace = 5 * time.Second
	}
	if config.Parallel == 0 {
		config.Parallel = 4
	}
	if config.MemoryBytes == 0 {
		config.MemoryBytes = 512 << 20
	}
	if config.Parallel < 1 || config.Parallel > ParallelMax {
		return nil, fmt.Errorf("logpush: %d uploads at a time must be from 1 to %d", config.Parallel, ParallelMax)
	}
	if config.MemoryBytes < MemoryBytesMin {
		return nil, fmt.Errorf("logpush: a memory of %d bytes must be at least %d", config.MemoryBytes, MemoryBytesMin)
	}
	if config.DefaultInterval < 0 || config.DefaultInterval > maxInterval || config.PollInterval < 0 || config.StopGrace < 0 {
		return nil, fmt.Errorf("logpush: the default interval %s must be at most %s, and no duration negative", config.DefaultInterval, maxInterval)
	}
	m, err := newMetrics()
	if err != nil {
		return nil, fmt.Errorf("logpush: declare metrics: %w", err)
	}
	with := &shared{chunks: newChunks(reader, config.MemoryBytes/4, m), budget: &budget{limit: config.MemoryBytes / 4 * 3}}
	if err := m.observe(with); err != nil {
		return nil, fmt.Errorf("logpush: declare metrics: %w", err)
	}
	manager := &Manager{config: config, jobs: jobs, sinks: sinks, groups: groups, shared: with, log: log, metrics: m, deleted: &deleted{from: config.Deletions}}
	if manager.lags, err = newLags(); err != nil {
		return nil, fmt.Errorf("logpush: declare metrics: %w", err)
	}
	if config.Health != nil {
		manager.pulse = newPulse(config.Health, config.DisableAfter, log)
	}
	if config.Alerts != nil {
		if manager.alerts, err = newAlerter(config.Alerts, config.AlertClient, config.AlertEvery, log); err != nil {
			return nil, fmt.Errorf("logpush: declare metrics: %w", err)
		}
	}
	return manager, nil
}

// Run delivers the enabled jobs until ctx ends; then it lets batches in hand be
// finished and returns nil. While the jobs cannot be read, those known go on.
func (m *Manager) Run(ctx context.Context) error {
	defer m.help(ctx)()
	running := map[int64]*runner{}
	ended := make(chan struct{}, 1) // a token when a runner ended
	defer func() {
		for _, r := range running {
			r.stop()
		}
		for _, r := range running {
			<-r.done
		}
		m.shared.chunks.close()
	}()
	logged := throttle{every: logInterval}
	poll := time.NewTicker(m.config.PollInterval)
	defer poll.Stop()
	for {
		jobs, err := m.jobs.Jobs(ctx)
		if err == nil {
			err = m.deleted.refresh(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			m.reconcile(ctx, running, jobs, ended)
		case logged.allow(time.Now()):
			m.log.WarnContext(ctx, "the jobs, or what is deleted, could not be read: going on with what is known", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
		case <-ended: // its successor need not wait for the next poll
		}
	}
}

// help runs what works beside the deliveries. The returned function ends it after
// they have ended. Alerts that wait when ctx ends have as long as uploads in hand.
func (m *Manager) help(ctx context.Context) (end func()) {
	sending, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { time.AfterFunc(m.config.StopGrace, giveUp) })
	ctx = context.WithoutCancel(ctx)
	begin := func(run func(context.Context)) (end func()) {
		ctx, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		running.Go(func() { run(ctx) })
		return func() {
			cancel()
			running.Wait()
		}
	}
	endPulse, endAlerts := func() {}, func() {}
	if m.pulse != nil {
		endPulse = begin(m.pulse.Run)
	}
	if m.alerts != nil {
		endAlerts = begin(func(ctx context.Context) { m.alerts.Run(ctx, sending) })
	}
	return func() {
		endPulse() // its last report may have an alert
		endAlerts()
		giveUp()
	}
}

// reconcile starts and stops runners until they match the jobs. A job whose
// settings changed starts again when its old runner is over, so that the two
// never hold the same partition.
func (m *Manager) reconcile(ctx context.Context, running map[int64]*runner, jobs []logjob.Job, ended chan<- struct{}) {
	wanted := map[int64]logjob.Job{}
	for _, j := range jobs {
		if j.Enabled {
			wanted[j.ID] = j
		}
	}
	failing := map[int64]bool{} // of jobs that start again: their new settings may end it
	for id, r := range running {
		if j, ok := wanted[id]; !ok || j.Revision != r.job.Revision {
			r.stop()
		}
		select {
		case <-r.done:
			delete(running, id)
			failing[id] = r.health.hasFailed()
		default:
		}
	}
	for id, j := range wanted {
		if running[id] == nil {
			running[id] = m.start(ctx, j, failing[id], ended)
		}
	}
}
