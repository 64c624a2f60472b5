package logpush

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
	tables "tidegate/schema/clickhouse"
)

// A replay sends a job's events of a range of times again, beside live delivery and
// through the same filter, format and uploader. It goes through one partition after the
// other: from Kafka what that has, from the archive what retention took, by offsets, so
// that the border between the two may move meanwhile.
//
// Its place is a row of the control plane's database, which is written before an upload
// (the plan) and after it. Whoever takes the replay over repeats the upload that was
// begun, under the same name, and goes on behind it.

// Replays is where replays are kept. Its methods are safe for concurrent use.
type Replays interface {
	// ClaimReplay gives holder a replay until ttl is over, and false where there is none.
	ClaimReplay(ctx context.Context, holder string, ttl time.Duration) (logjob.Replay, bool, error)
	// RenewReplay holds it for ttl more; 0 gives it back. It is an errs.Conflict when
	// the replay was canceled or somebody else has it, and so is SaveReplay.
	RenewReplay(ctx context.Context, id, fence int64, ttl time.Duration) error
	SaveReplay(ctx context.Context, r logjob.Replay) error
	// Job is an errs.NotFound for one that was deleted.
	Job(ctx context.Context, accountID string, id int64) (logjob.Job, error)
}

// Archive has the events that Kafka no longer has. Its methods are safe for concurrent use.
type Archive interface {
	// ArchivedEvents returns a page of events in the order of their offsets, and the
	// offset from which to ask for more; q.End when there are no more.
	ArchivedEvents(ctx context.Context, q tables.ArchiveQuery) (list []tables.Archived, next int64, err error)
	// ArchiveRange tells where the events of the time lie, those of all accounts.
	ArchiveRange(ctx context.Context, q tables.ArchiveQuery) (tables.ArchiveRange, error)
	// OldestArchived returns the time of the oldest event of all accounts; false: there is none.
	OldestArchived(ctx context.Context) (time.Time, bool, error)
}

// Topic is the event topic, read without a group. All but FetchBatches ask once.
type Topic interface {
	Reader
	Partitions(ctx context.Context) ([]int, error)
	Bounds(ctx context.Context, partition int) (first, next int64, err error)
	OffsetAt(ctx context.Context, partition int, t time.Time) (int64, error)
	// Committed returns the metadata of a group's commits by partition.
	Committed(ctx context.Context, groupID string) (map[int]string, error)
}

// ReplayConfig is what replays work on.
type ReplayConfig struct {
	Replays Replays
	Topic   Topic
	// Archive nil: what Kafka no longer has is lost to replays.
	Archive Archive
	Holder  string // names this process among those that claim
	// AtOnce is how many replays the process runs. 2 when zero.
	AtOnce int
	// Lease is how long a process that fell silent keeps its replays. 10 s when zero.
	Lease time.Duration
	// Patience is how long a replay may wait, for its destination most likely, before
	// it makes place for others and goes on when its turn comes. 5 min when zero.
	Patience time.Duration
}

// RunReplays runs replays until ctx ends; then uploads in hand are finished, within
// Config.StopGrace, and what is left is given back.
func (m *Manager) RunReplays(ctx context.Context, c ReplayConfig) error {
	if c.AtOnce == 0 {
		c.AtOnce = 2
	}
	if c.Lease == 0 {
		c.Lease = 10 * time.Second
	}
	if c.Patience == 0 {
		c.Patience = 5 * time.Minute
	}
	var workers sync.WaitGroup
	for i := range c.AtOnce {
		workers.Go(func() { m.workReplays(ctx, c, fmt.Sprintf("%s/%d", c.Holder, i)) })
	}
	workers.Wait()
	return nil
}

// workReplays runs one replay after the other.
func (m *Manager) workReplays(ctx context.Context, c ReplayConfig, holder string) {
	logged := throttle{every: logInterval}
	for ctx.Err() == nil {
		claimed := time.Now()
		r, ok, err := c.Replays.ClaimReplay(ctx, holder, c.Lease)
		if err != nil && ctx.Err() == nil && logged.allow(time.Now()) {
			m.log.WarnContext(ctx, "replays could not be looked for", "error", err)
		}
		if err == nil && ok {
			m.replay(ctx, c, r, claimed)
			continue
		}
		_ = stream.Sleep(ctx, m.config.PollInterval) // an early end is noticed above
	}
}

var (
	errReplayGone = errors.New("the replay was canceled, or another process runs it")
	errNewJob     = errors.New("the job's settings changed")
)

// failedError ends a replay for good. Its text is for the job's owner.
type failedError struct{ text string }

func (e *failedError) Error() string { return e.text }

// replay runs a claimed replay until it is over, is taken away, or ctx ends.
func (m *Manager) replay(ctx context.Context, c ReplayConfig, r logjob.Replay, claimed time.Time) {
	log := m.log.With("job", r.JobID, "replay", r.ID)
	working, breakOff := context.WithCancelCause(context.WithoutCancel(ctx))
	defer breakOff(nil)
	defer context.AfterFunc(ctx, func() { // the second stage of a stop
		_ = stream.Sleep(working, m.config.StopGrace) // or it is over before
		breakOff(nil)
	})()
	p := &replaying{manager: m, config: c, log: log, logged: throttle{every: logInterval}, row: r}
	log.InfoContext(ctx, "a replay begins", "from", r.From, "to", r.To, "fence", r.Fence)
	var beating sync.WaitGroup
	beating.Go(func() { p.beat(working, claimed, breakOff) })
	err := errNewJob
	for errors.Is(err, errNewJob) {
		err = p.run(ctx, working)
	}
	if failed, ok := errors.AsType[*failedError](err); ok {
		err = p.end(working, logjob.ReplayFailed, failed.text)
	}
	if cause := context.Cause(working); cause != nil {
		err = cause
	}
	breakOff(nil)
	beating.Wait()
	switch {
	case err == nil:
		log.InfoContext(ctx, "a replay ended", "state", p.row.State, "records_sent", p.row.RecordsSent, "records_lost", p.row.RecordsLost, "error", p.row.Error)
	case errors.Is(err, errReplayGone):
		log.InfoContext(ctx, "a replay was canceled or taken over")
	default:
		if !errors.Is(err, errStopping) && ctx.Err() == nil {
			log.ErrorContext(ctx, "a replay was broken off and will be taken up again", "error", err)
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthGrace)
		defer cancel()
		if err := c.Replays.RenewReplay(ctx, r.ID, r.Fence, 0); err != nil {
			log.WarnContext(ctx, "a replay could not be given back: it waits until its lease is over", "error", err)
		}
	}
}

// beat holds the replay, and breaks it off when it is no longer ours. It also shows
// what the replay waits for, and notices changes of the job.
func (p *replaying) beat(ctx context.Context, held time.Time, breakOff context.CancelCauseFunc) {
	lease := p.config.Lease
	var waits time.Time // since when
	for stream.Sleep(ctx, lease/10) == nil {
		// Each try is short, so that the replay is broken off while it is still ours.
		trying, cancel := context.WithTimeout(ctx, lease/5)
		now := time.Now()
		err := p.config.Replays.RenewReplay(trying, p.row.ID, p.row.Fence, lease)
		if err == nil {
			held = now
			err = p.showTrouble(trying)
		}
		if err == nil {
			err = p.watchJob(trying)
		}
		if err == nil {
			err = p.manager.deleted.refresh(trying)
		}
		cancel()
		waits = p.makePlace(now, waits)
		switch kind := errs.KindOf(err); {
		case kind == errs.Conflict, kind == errs.NotFound:
			breakOff(errReplayGone)
			return
		case time.Since(held) > lease/2:
			breakOff(fmt.Errorf("the replay could not be held: %w", err))
			return
		}
	}
}

// makePlace stops the work of a replay that has waited for long. It returns since when
// the replay waits, and the zero time for one that goes on.
func (p *replaying) makePlace(now, since time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.troubleLocked() == "":
		return time.Time{}
	case since.IsZero():
		return now
	case now.Sub(since) >= p.config.Patience && p.stop != nil:
		p.stop()
	}
	return since
}

// watchJob stops the work under old settings when the job has new ones.
func (p *replaying) watchJob(ctx context.Context) error {
	job, err := p.config.Replays.Job(ctx, p.row.AccountID, p.row.JobID)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.settings != nil && p.settings.job.Revision != job.Revision {
		p.renewed = true
		p.stop()
	}
	return nil
}

// run works under the job's settings as they are now, until the replay is over, they
// change, or the process stops.
func (p *replaying) run(stopping, ctx context.Context) error {
	var job logjob.Job
	err := p.insist(stopping, ctx, "read the job", "the control plane's database does not answer", func(ctx context.Context) (err error) {
		job, err = p.config.Replays.Job(ctx, p.row.AccountID, p.row.JobID)
		if errs.KindOf(err) == errs.NotFound {
			return &failedError{"the job was deleted"}
		}
		if err == nil {
			err = p.manager.deleted.refresh(ctx)
		}
		return err
	})
	if err != nil {
		return err
	}
	s, err := newSettings(job, p.manager.sinks, p.manager.config)
	if err != nil {
		return &failedError{fmt.Sprintf("error opening the destination: %v", err)}
	}
	s.replay, s.deleted = p.row.ID, p.manager.deleted
	working, stop := context.WithCancel(stopping)
	defer stop()
	p.mu.Lock()
	p.settings, p.stopping, p.stop, p.renewed = s, working, stop, false
	p.health = newHealth(job.ID, nil, p.log) // read by showTrouble; nobody writes it
	p.health.letters, p.health.letterLimits = p.manager.config.Letters, p.manager.config.LetterLimits
	p.health.alert = func(kind, message string) {
		if kind == AlertLetters { // the rest is the replay's own to show
			p.manager.alerts.send(job, kind, message, time.Now())
		}
	}
	p.mu.Unlock()
	p.metrics = p.manager.metrics.of(job.ID, attribute.Bool("replay", true))
	p.facts, p.window, p.rebuild, p.pending = newFacts(job.DestinationConf, s.traits), newWindow(s), nil, looked{}
	p.holding = p.manager.shared.budget.open()
	defer p.holding.close()
	err = p.work(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(err, errStopping) && p.renewed && stopping.Err() == nil {
		return errNewJob
	}
	return err
}

// replaying is one replay that this process runs. It belongs to one goroutine, but for
// what mu guards, which beat reads.
type replaying struct {
	manager *Manager
	config  ReplayConfig
	log     *slog.Logger
	logged  throttle

	metrics  *jobMetrics
	uploader *uploader // of the partition
	facts    *facts
	window   *window
	holding  *holding
	memory   stream.Memory
	entry    entry // looked at
	text     []byte
	at       *logjob.ReplayPartition // of row
	position int64                   // of the next offset to look at; behind at.Next
	rebuild  *plan                   // of an upload that was begun and has to be repeated
	pending  looked                  // since the row was saved
	savedAt  time.Time

	mu      sync.Mutex
	row     logjob.Replay // as it is saved, or being saved; ids and fence never change
	shown   string        // row.Error as it is saved
	waiting string        // what the replay waits for, beside uploads
	*settings
	health   *health
	stopping context.Context // ends when no new work is to be begun
	stop     context.CancelFunc
	renewed  bool // the job has other settings
}

// lostRange is a loss and the reason it is counted under.
type lostRange struct {
	logjob.ReplayLoss
	reason string
}

// looked counts what was looked at.
type looked struct {
	counts
	sent, bytes, unmarked int64
	newest                time.Time // of the events sent
	losses                []lostRange
}
