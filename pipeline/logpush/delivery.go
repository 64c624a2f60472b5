package logpush

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// idleCommit is how often the position is committed while nothing has to be sent.
const idleCommit = 5 * time.Second

// settings is a job made ready to run. Immutable; shared by its partitions.
type settings struct {
	job    logjob.Job
	filter *logjob.Filter
	format *logjob.Format
	rate   float64
	bounds bounds
	sink   Sink
}

func newSettings(j logjob.Job, sinks Sinks, defaultInterval time.Duration) (*settings, error) {
	s := &settings{job: j, rate: 1, bounds: boundsOf(&j, defaultInterval)}
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
	s.sink, err = sinks.Open(j.DestinationConf)
	return s, err
}

// delivery sends one partition's records for one job. It belongs to one goroutine.
type delivery struct {
	*settings
	partition stream.Partition
	stopping  context.Context // ends when no new work is to be begun
	uploader  *uploader
	health    *health
	metrics   *jobMetrics
	log       *slog.Logger
	logged    throttle

	batch     batch
	record    logjob.Record
	text      []byte // of the record being added
	position  int64  // of the next record to look at
	committed int64
	idleSince time.Time // when the position was committed last
	rebuild   *plan     // of an upload that was begun and has to be repeated
	newest    time.Time // of the records seen in the partition; see mark
	counts    counts
}

func newDelivery(stopping context.Context, s *settings, p stream.Partition, h *health, m *jobMetrics, log *slog.Logger) *delivery {
	log = log.With("partition", p.ID())
	return &delivery{
		settings: s, partition: p, stopping: stopping, health: h, metrics: m, log: log,
		logged: throttle{every: logInterval},
		batch:  batch{format: s.format, bounds: s.bounds},
		uploader: &uploader{
			settings: s, partition: p.ID(), stopping: stopping, health: h, metrics: m, log: log,
			logged: throttle{every: logInterval},
		},
	}
}

// counts of events since they were last added to the metrics.
type counts struct {
	in, disabled, filtered, sampled, malformed, truncated int64
}

// run delivers until ctx ends or it is told to stop; then it finishes the batch
// in hand, if the destination takes it at once. It returns nil after a stop.
func (d *delivery) run(ctx context.Context) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.stopping, cancel)()

	for d.stopping.Err() == nil {
		records, err := d.fetch(ctx, waiting)
		if err == nil {
			err = d.takeAll(ctx, records)
		}
		if err == nil {
			err = d.close(ctx, false)
		}
		switch {
		case errors.Is(err, errStopping):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && d.stopping.Err() == nil:
			return err
		}
	}
	err := d.close(ctx, true)
	if errors.Is(err, errStopping) {
		return nil
	}
	return err
}

// begin finds where the job goes on: at the committed offset, or, if the job was
// switched on since that was committed, at the first record after that moment.
func (d *delivery) begin(ctx context.Context) error {
	offset, metadata, ok := d.partition.Committed()
	m := parseMark(metadata)
	d.newest = m.newest()
	if !ok || m.EnabledAt != d.job.EnabledAt.UnixMicro() {
		m.Plan = nil
		enabled, err := d.enabledOffset(ctx)
		if err != nil {
			return fmt.Errorf("find where job %d begins in partition %d: %w", d.job.ID, d.partition.ID(), err)
		}
		if !ok || enabled > offset {
			offset = enabled
		}
		// Commit at once: what retention takes from here on is a loss to be told.
		if err := d.commit(ctx, offset, nil); err != nil {
			return err
		}
	}
	d.position, d.committed, d.idleSince = offset, offset, time.Now()
	d.partition.SeekTo(offset)
	if m.Plan != nil && m.Plan.Revision == d.job.Revision && m.Plan.End > offset {
		return d.resume(ctx, m.Plan)
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

// fetch waits for records until something else is due; then it returns none.
func (d *delivery) fetch(ctx, waiting context.Context) ([]stream.Record, error) {
	now := time.Now()
	wait := d.idleSince.Add(idleCommit).Sub(now)
	switch {
	case d.rebuild != nil: // its records are there: only the broker can be away
		wait = idleCommit
	case !d.batch.Empty():
		wait = d.batch.UntilNext(now)
	}
	waiting, cancel := context.WithTimeout(waiting, max(wait, 0))
	defer cancel()
	records, err := d.partition.Fetch(waiting)
	if gone, ok := errors.AsType[*stream.OutOfRangeError](err); ok {
		return nil, d.skip(ctx, gone)
	}
	if err != nil && errors.Is(waiting.Err(), context.DeadlineExceeded) {
		return nil, nil
	}
	return records, err
}

// takeAll looks at each record, uploading whenever a batch is complete.
func (d *delivery) takeAll(ctx context.Context, records []stream.Record) error {
	defer d.count(ctx)
	d.newest = stream.Newest(d.newest, records)
	for i := range records {
		if err := d.take(ctx, &records[i]); err != nil {
			return err
		}
	}
	return nil
}

func (d *delivery) take(ctx context.Context, r *stream.Record) error {
	if d.rebuild != nil && r.Offset >= d.rebuild.End {
		if err := d.upload(ctx); err != nil {
			return err
		}
	}
	if d.keep(r) {
		d.text = d.format.AppendRecord(d.text[:0], &d.record)
		if !d.fits(r) {
			d.rebuild = nil // of other records than the plan's, or there would be room
			if err := d.upload(ctx); err != nil {
				return err
			}
		}
		if err := d.batch.Add(time.Now(), d.text, r.Offset, r.Time); err != nil {
			return err
		}
	} else if !d.batch.Empty() {
		d.batch.Extend(r.Offset+1, r.Time)
	}
	d.position = r.Offset + 1
	if d.rebuild == nil && d.batch.Full(time.Now()) {
		return d.upload(ctx)
	}
	return nil
}

// fits reports whether there is room in the batch for a record and its text. One
// that is built again ends with its plan; it only may not outgrow what a batch is.
func (d *delivery) fits(r *stream.Record) bool {
	if d.rebuild != nil {
		return d.batch.HasRoom(len(d.text))
	}
	return d.batch.Fits(len(d.text), r.Time)
}

// keep decides whether a record is sent, and leaves it split in d.record.
func (d *delivery) keep(r *stream.Record) bool {
	if r.Account != d.job.AccountID {
		return false
	}
	d.counts.in++
	if r.Header(schema.HeaderLogpush) == schema.LogpushDisabled {
		d.counts.disabled++
		return false
	}
	if err := d.record.Split(r.Value); err != nil {
		d.counts.malformed++
		return false
	}
	if !d.filter.Match(&d.record) {
		d.counts.filtered++
		return false
	}
	if !sampled(d.rate, d.job.ID, d.partition.ID(), r.Offset) {
		d.counts.sampled++
		return false
	}
	if d.record.Truncate() {
		d.counts.truncated++
	}
	return true
}

func (d *delivery) count(ctx context.Context) {
	c := d.counts
	d.counts = counts{}
	if c.in > 0 {
		d.metrics.in.Add(ctx, c.in, d.metrics.attrs)
	}
	d.metrics.drop(ctx, droppedLogpush, c.disabled)
	d.metrics.drop(ctx, droppedFilter, c.filtered)
	d.metrics.drop(ctx, droppedSample, c.sampled)
	d.metrics.drop(ctx, droppedMalformed, c.malformed)
	if c.truncated > 0 {
		d.metrics.truncated.Add(ctx, c.truncated, d.metrics.attrs)
	}
	if c.malformed > 0 && d.logged.allow(time.Now()) {
		d.log.WarnContext(ctx, "events that are not JSON objects were left out", "events", c.malformed)
	}
}

// close uploads the batch if it is due, or at the end of a delivery in any case.
// Where there is no batch it commits how far the partition was read, now and then.
func (d *delivery) close(ctx context.Context, last bool) error {
	now := time.Now()
	switch {
	case d.rebuild != nil && d.position >= d.rebuild.End,
		d.rebuild == nil && !d.batch.Empty() && (last || d.batch.Full(now)):
		return d.upload(ctx)
	case d.rebuild != nil || !d.batch.Empty():
		return nil
	case last || now.Sub(d.idleSince) >= idleCommit:
		d.idleSince = now
		if d.position > d.committed {
			return d.commit(ctx, d.position, nil)
		}
	}
	return nil
}

// upload sends the batch, commits behind it and begins the next one. The plan is
// committed first, unless it is the one that the batch was rebuilt from.
func (d *delivery) upload(ctx context.Context) error {
	planned, begin := d.rebuild, d.committed
	if planned == nil {
		planned, begin = d.batch.Plan(d.job.Revision), d.batch.begin
		if err := d.commit(ctx, begin, planned); err != nil {
			return err
		}
	}
	if !d.batch.Empty() { // retention can leave nothing to rebuild
		sealed, err := d.batch.Seal(d.job.ID, d.partition.ID(), planned, begin)
		if err != nil {
			return err
		}
		if err := d.uploader.deliver(ctx, sealed); err != nil {
			return err
		}
	}
	d.rebuild = nil
	d.batch.Reset()
	return d.commit(ctx, planned.End, nil)
}

// commit stores where the next batch begins, and the plan of its upload if one begins.
func (d *delivery) commit(ctx context.Context, offset int64, p *plan) error {
	m := mark{EnabledAt: d.job.EnabledAt.UnixMicro(), Plan: p}
	if !d.newest.IsZero() {
		m.Newest = d.newest.UnixMilli()
	}
	if err := d.partition.Commit(ctx, offset, m.String()); err != nil {
		return fmt.Errorf("commit offset %d of partition %d for job %d: %w", offset, d.partition.ID(), d.job.ID, err)
	}
	d.committed, d.idleSince = offset, time.Now()
	return nil
}
