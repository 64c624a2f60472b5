package logpush

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
)

// idleCommit is how often the position is committed while nothing has to be sent.
const idleCommit = 5 * time.Second

// settings is a job made ready to run. Immutable; shared by its partitions.
type settings struct {
	job      logjob.Job
	filter   *logjob.Filter
	format   *logjob.Format
	rate     float64
	bounds   bounds
	sink     Sink
	traits   Traits
	parallel int   // uploads of one partition at a time
	replay   int64 // id of the replay; 0: live delivery
	deleted  *deleted
}

func newSettings(j logjob.Job, sinks Sinks, c Config) (*settings, error) {
	s := &settings{job: j, rate: 1, parallel: c.Parallel}
	if rate := j.Output().SampleRate; rate != nil {
		s.rate = *rate
	}
	var err error
	if s.filter, err = logjob.ParseFilter(j.Filter); err != nil {
		return nil, err
	}
	if s.format, err = j.Format(); err != nil {
		return nil, err
	}
	if s.sink, err = sinks.Open(j.DestinationConf); err != nil {
		return nil, err
	}
	s.traits = TraitsOf(s.sink)
	if s.traits.InOrder {
		s.parallel = 1
	}
	s.bounds = boundsOf(&j, s.traits, c.DefaultInterval)
	return s, nil
}

// delivery sends one partition's records for one job. It belongs to one goroutine,
// which looks at records, builds windows and says what to commit; uploads have their
// own and tell it when they end.
type delivery struct {
	*settings
	partition stream.Partition
	shared    *shared
	stopping  context.Context // ends when no new work is to be begun
	uploader  *uploader
	health    *health
	metrics   *jobMetrics
	log       *slog.Logger
	logged    throttle

	facts    *facts
	window   *window
	holding  *holding
	ticket   *ticket // for the chunk at position; nil while there is no room for it
	seat     *seat
	closing  bool // the window is due, whatever its bounds say
	gone     *stream.OutOfRangeError
	text     []byte // of the record being added
	position int64  // of the next record to look at

	rebuild   []plan    // of uploads that were begun and have to be repeated
	uploads   []*upload // in the order of their offsets, from the lowest that is not finished
	ended     chan *upload
	commits   *commits
	committed int64     // or about to be
	began     *int64    // see mark
	idleSince time.Time // when the position was committed last
	newest    time.Time // of the records seen in the partition; see mark
	told      []span    // see mark; they are apart from each other
	counts    counts
}

// shared is what all deliveries of a process have together.
type shared struct {
	chunks *chunks
	budget *budget
}

func newDelivery(stopping context.Context, s *settings, p stream.Partition, with *shared, h *health, m *jobMetrics, log *slog.Logger) *delivery {
	log = log.With("partition", p.ID())
	return &delivery{
		settings: s, partition: p, shared: with, stopping: stopping, health: h, metrics: m, log: log,
		logged: throttle{every: logInterval},
		facts:  newFacts(s.job.DestinationConf, s.traits), window: newWindow(s),
		ended:   make(chan *upload, s.parallel),
		commits: newCommits(p, func(offset int64) { m.ledger.at(p.ID(), offset) }),
		uploader: &uploader{
			settings: s, partition: p.ID(), stopping: stopping, health: h, metrics: m, log: log,
			logged: throttle{every: logInterval},
		},
	}
}

// run delivers until ctx ends or it is told to stop; then it finishes what is in
// hand, if the destination takes it at once. It returns nil after a stop.
func (d *delivery) run(ctx context.Context) error {
	d.commits.tenure = ctx
	ctx, cancel := context.WithCancel(ctx)
	d.holding = d.shared.budget.open()
	d.seat = d.shared.chunks.join(d.partition.ID())
	defer func() {
		d.leave()
		d.shared.chunks.quit(d.seat)
		cancel()
		for _, u := range d.uploads { // their memory is ours
			<-u.over
		}
		d.commits.running.Wait()
		d.holding.close()
	}()
	err := d.begin(ctx)
	for err == nil && d.stopping.Err() == nil {
		if err = d.work(ctx); err == nil {
			err = d.wait(ctx)
		}
	}
	if err == nil {
		err = d.finish(ctx)
	}
	return err
}

// begin finds where the job goes on: at the committed offset, or, if the job was
// switched on since that was committed, at the first record after that moment.
func (d *delivery) begin(ctx context.Context) error {
	offset, metadata, ok := d.partition.Committed()
	m := parseMark(offset, metadata)
	d.newest, d.began, d.told = m.newest(), m.Began, m.Told
	if !ok || m.EnabledAt != d.job.EnabledAt.UnixMicro() {
		m.Plans = nil
		enabled, err := d.enabledOffset(ctx)
		if err != nil {
			return fmt.Errorf("find where job %d begins in partition %d: %w", d.job.ID, d.partition.ID(), err)
		}
		if ok && enabled > offset {
			d.metrics.drop(ctx, droppedOff, enabled-offset)
			d.log.WarnContext(ctx, "a job that was switched on again leaves out what it had not delivered, and what came while it was off",
				"offsets", enabled-offset, "begin", offset, "end", enabled-1)
		}
		if !ok || enabled > offset {
			offset = enabled
		}
		// Commit at once: what retention takes from here on is a loss to be told.
		began := offset
		d.position, d.began = offset, &began
		d.commit()
	}
	d.position, d.committed, d.idleSince = offset, offset, time.Now()
	d.metrics.ledger.at(d.partition.ID(), offset)
	if len(m.Plans) > 0 && m.Revision == d.job.Revision {
		return d.resume(ctx, m.Plans)
	}
	return nil
}

// enabledOffset is where the job would begin if it had never run.
func (d *delivery) enabledOffset(ctx context.Context) (int64, error) {
	_, next, err := d.partition.Bounds(ctx)
	if err != nil {
		return 0, err
	}
	// Records carry milliseconds: one of the same millisecond may have come after.
	enabled, err := d.partition.OffsetAt(ctx, d.job.EnabledAt.Truncate(time.Millisecond))
	// What is written from here on is new, also while OffsetAt looks for it.
	return min(enabled, next), err
}

// work does what can be done without waiting for records, uploads or the clock.
func (d *delivery) work(ctx context.Context) error {
	for d.stopping.Err() == nil {
		var err error
		switch {
		case d.due(time.Now()):
			if !d.mayUpload() { // the chunk is others' until then
				d.leave()
				return nil
			}
			err = d.upload(ctx)
		case d.gone != nil:
			if !d.gone.Removed() && len(d.uploads) > 0 { // their ends are told in the old offsets
				return nil
			}
			err = d.skip(ctx)
		case d.holding.over() && len(d.uploads) > 0:
			d.leave()
			return nil
		case d.ticket == nil:
			d.ticket = d.shared.chunks.ask(d.partition.ID(), d.position)
			continue
		default:
			select {
			case <-d.ticket.ready:
				err = d.look(ctx)
			default:
				return nil
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// wait returns when there may be work. Here ends of uploads are taken note of.
func (d *delivery) wait(ctx context.Context) error {
	var ready <-chan struct{}
	if d.ticket != nil {
		ready = d.ticket.ready
	}
	var due <-chan time.Time
	if at := d.nextDue(); !at.IsZero() {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-d.stopping.Done():
		return nil
	case <-d.commits.broken:
		return d.commits.failure
	case u := <-d.ended:
		return d.landed(u)
	case <-ready:
	case <-due:
		d.idle()
		return nil
	}
	return nil
}

// nextDue is when something has to be done though nothing comes, if that is ever.
func (d *delivery) nextDue() time.Time {
	switch {
	case len(d.rebuild) > 0 || d.due(time.Now()):
		return time.Time{}
	case !d.window.Empty():
		return d.window.closesAt
	case len(d.uploads) > 0:
		return time.Time{}
	}
	return d.idleSince.Add(idleCommit)
}

// idle commits how far the partition was read, now and then, while there is
// nothing to send.
func (d *delivery) idle() {
	if !d.window.Empty() || len(d.uploads) > 0 || time.Since(d.idleSince) < idleCommit {
		return
	}
	d.idleSince = time.Now()
	if d.position > d.committed {
		d.commit()
	}
}

// leave lets go of the chunk.
func (d *delivery) leave() {
	if d.ticket != nil {
		d.ticket.leave()
		d.ticket = nil
	}
}

// finish ends a delivery that was told to stop: it sends the window in hand, and
// waits for uploads, as long as the destination takes what it is given.
func (d *delivery) finish(ctx context.Context) error {
	d.leave()
	complete := len(d.rebuild) == 0 || d.position >= d.rebuild[0].End
	for {
		if complete && !d.window.Empty() && d.mayUpload() {
			if err := d.upload(ctx); err != nil {
				return err
			}
		}
		if d.underWay() == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.commits.broken:
			return d.commits.failure
		case u := <-d.ended:
			if err := d.landed(u); err != nil {
				return err
			}
		}
	}
	if len(d.uploads) == 0 && complete && d.position > d.committed {
		d.commit()
	}
	return d.commits.wait(ctx)
}
