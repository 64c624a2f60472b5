package logpush

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"tidegate/internal/errs"
	"tidegate/internal/telemetry"
)

// errStopping ends a delivery that was told to stop while its batch waits for a
// destination. The batch is not lost: its plan is committed.
var errStopping = errors.New("told to stop")

// uploader brings sealed batches of one partition of one job to the destination. It
// is safe for concurrent use.
type uploader struct {
	*settings
	partition int
	stopping  context.Context // ends when a batch that waits is to be given up for now
	health    *health
	metrics   *jobMetrics
	log       *slog.Logger
	logged    throttle

	// trusted is whether the destination took something since it refused every
	// record of a batch; then a refusal is the records' fault.
	trusted atomic.Bool
}

// refusal is a part that the destination refused for good.
type refusal struct {
	section
	attempts int
	err      *UploadError
}

// deliver is settle for who need not know what the destination took.
func (u *uploader) deliver(ctx context.Context, s *sealed) error {
	_, _, err := u.settle(ctx, s)
	return err
}

// settle returns once a batch is dealt with, so that what lies behind it may
// be committed: the destination has its records, except for those that it refused
// for good, which are dead letters. It returns how many it took, and their uncompressed
// bytes. It tries until then: its error is errStopping or ctx's, or about a batch that
// cannot be taken apart.
func (u *uploader) settle(ctx context.Context, s *sealed) (records, bytes int64, err error) {
	ctx, span := telemetry.Tracer("tidegate/pipeline/logpush").Start(ctx, "logpush.upload", trace.WithAttributes(
		attribute.Int64("job_id", s.JobID), attribute.String("batch_id", s.BatchID), attribute.Int("records", s.Records)))
	defer func() { telemetry.End(span, err) }()
	defer u.metrics.ledger.begin(u.partition, s)()
	parts, large := u.sift(ctx, s)
	refused, accepted, err := u.spread(ctx, s, parts)
	if err != nil {
		return 0, 0, err
	}
	if len(refused) > 0 && accepted == 0 && !u.trusted.Load() {
		if refused, accepted, err = u.insist(ctx, s, parts, refused); err != nil {
			return 0, 0, err
		}
	}
	refused = append(refused, large...)
	if len(refused) > 0 {
		if err := u.bury(ctx, s, refused); err != nil {
			return 0, 0, err
		}
	}
	if len(parts) > 0 {
		u.trusted.Store(accepted > 0)
	}
	u.metrics.ledger.well(time.Now()) // also where all of it became dead letters: nothing is stuck
	u.health.Succeeded(u.partition, s.until)
	records, bytes = int64(s.Records), s.size
	for _, r := range refused {
		begin, end := s.span(r.section, u.format)
		records, bytes = records-int64(r.len()), bytes-(end-begin)
	}
	if records == 0 {
		bytes = 0 // what stands around records went nowhere
	}
	return records, bytes, nil
}

// sift takes the records out of a batch that are longer than the destination takes:
// sending them would only show that again, or have them cut. It returns the parts
// between them.
func (u *uploader) sift(ctx context.Context, s *sealed) (parts []section, large []refusal) {
	most := int64(u.traits.MaxRecordBytes)
	if most == 0 || u.health.letters == nil {
		return []section{s.whole()}, nil
	}
	from := 0
	for i := range s.index {
		one := section{i, i + 1}
		begin, end := s.span(one, u.format)
		if end-begin <= most {
			continue
		}
		u.metrics.fail(ctx, stageRefused)
		large = append(large, refusal{one, 0, tooLarge(end-begin, most)})
		if from < i {
			parts = append(parts, section{from, i})
		}
		from = i + 1
	}
	if from < len(s.index) {
		parts = append(parts, section{from, len(s.index)})
	}
	return parts, large
}

// tooLarge is the refusal of a record that is not sent.
func tooLarge(bytes, most int64) *UploadError {
	return &UploadError{Status: http.StatusRequestEntityTooLarge, Permanent: true,
		Text: fmt.Sprintf("a record has %d bytes, and the destination takes at most %d: it was not sent", bytes, most)}
}

// spread sends parts of a batch, and smaller and smaller parts of what is refused
// because of its content. It returns the parts that are refused for good and how many
// records the destination took.
func (u *uploader) spread(ctx context.Context, s *sealed, parts []section) (refused []refusal, accepted int, err error) {
	todo := slices.Clone(parts)
	slices.Reverse(todo)
	// A receiver that takes little at a time leaves the search for bad records its own bound.
	splits, sizeSplits := splitsMax, sizeSplitsMax // that are left
	for len(todo) > 0 {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		attempts, e, err := u.send(ctx, s, p)
		if err != nil {
			return nil, 0, err
		}
		if bad, taken, ok := p.outcome(attempts, e); ok {
			refused, accepted = append(refused, bad...), accepted+taken
			continue
		}
		left := &splits
		if e.Status == http.StatusRequestEntityTooLarge {
			left = &sizeSplits
		}
		if p.len() == 1 || *left == 0 {
			refused = append(refused, refusal{p, attempts, e})
			continue
		}
		*left--
		first, second := p.halves()
		todo = append(todo, second, first)
	}
	return refused, accepted, nil
}

// outcome tells the records of a part that were refused from those that were taken;
// false: the part was refused as a whole. That is so, too, where the destination names
// only records that the part doesn't have.
func (p section) outcome(attempts int, e *UploadError) (refused []refusal, taken int, ok bool) {
	taken = p.len()
	if e == nil {
		return nil, taken, true
	}
	for _, r := range p.pick(e.Records) {
		taken -= r.len()
		refused = append(refused, refusal{r, attempts, e})
	}
	return refused, taken, len(refused) > 0
}

// pick returns the records of a part with the given places, neighbours together.
// Places that the part doesn't have are left out.
func (p section) pick(places []int) (list []section) {
	for _, place := range slices.Compact(slices.Sorted(slices.Values(places))) {
		at := p.from + place
		switch n := len(list); {
		case at < p.from || at >= p.to:
		case n > 0 && list[n-1].to == at:
			list[n-1].to++
		default:
			list = append(list, section{at, at + 1})
		}
	}
	return list
}

// insist tries the first part of a batch again, for a while, of which every record was
// refused. Once the destination takes some of it, the other parts follow.
func (u *uploader) insist(ctx context.Context, s *sealed, parts []section, refused []refusal) (_ []refusal, accepted int, err error) {
	failure := refused[0].err
	for attempt, until := 0, time.Now().Add(refusedPatience); time.Now().Before(until); attempt++ {
		if err := u.pause(ctx, attempt, s.Name, failure); err != nil {
			return nil, 0, err
		}
		attempts, e, err := u.send(ctx, s, parts[0])
		if err != nil {
			return nil, 0, err
		}
		if bad, taken, ok := parts[0].outcome(attempts, e); ok && taken > 0 {
			rest, more, err := u.spread(ctx, s, parts[1:])
			return append(bad, rest...), taken + more, err
		}
		failure = e
	}
	// The setting may be mended meanwhile, and the part refused for one bad record.
	return u.spread(ctx, s, parts)
}

// send tries to upload a part until the destination has it, or refuses it because of
// its content, which is no error.
func (u *uploader) send(ctx context.Context, s *sealed, p section) (attempts int, refused *UploadError, err error) {
	if p != s.whole() { // the search of a large batch may take longer than a stop waits
		select {
		case <-u.stopping.Done():
			return 0, nil, errStopping
		default:
		}
	}
	cut, err := s.cut(p, u.format)
	if err != nil {
		return 0, nil, err
	}
	for attempts = 1; ; attempts++ {
		started := time.Now()
		err := u.sink.Put(ctx, cut.Object)
		if err == nil {
			u.trusted.Store(true)
			u.metrics.delivered(ctx, cut, time.Since(started))
			u.health.Succeeded(u.partition, time.Time{})
			level := slog.LevelDebug
			if attempts > 1 { // the end of what was warned about
				level = slog.LevelInfo
			}
			u.log.Log(ctx, level, "batch delivered", "object", cut.Name, "records", cut.Records, "bytes", len(cut.Body), "tries", attempts)
			return attempts, nil, nil
		}
		if ctx.Err() != nil {
			return attempts, nil, ctx.Err()
		}
		if e := u.refusalOf(err); e != nil {
			u.metrics.fail(ctx, stageRefused)
			if u.logged.allow(time.Now()) {
				u.log.WarnContext(ctx, "the destination refuses what is in an upload: looking for the records that are to blame",
					"object", cut.Name, "records", cut.Records, "error", u.redacted(err))
			}
			u.refused(ctx, cut, e, time.Since(started))
			return attempts, e, nil
		}
		u.metrics.ledger.tried(time.Now(), cut, statusOf(err), false, time.Since(started))
		if err := u.pause(ctx, attempts-1, cut.Name, err); err != nil {
			return attempts, nil, err
		}
	}
}

// refused counts an upload of which a part or all was refused.
func (u *uploader) refused(ctx context.Context, s *sealed, e *UploadError, took time.Duration) {
	bad := *s
	if len(e.Records) > 0 {
		bad.Records = 0
		for _, r := range s.whole().pick(e.Records) {
			bad.Records += r.len()
		}
		taken := *s
		if taken.Records -= bad.Records; taken.Records > 0 {
			u.metrics.delivered(ctx, &taken, took)
		}
		bad.size, bad.Body = 0, nil // counted with the records that were taken
	}
	u.metrics.ledger.tried(time.Now(), &bad, e.Status, s.Records == 1 || len(e.Records) > 0, took)
}

// statusOf is 0 for an error without one.
func statusOf(err error) int {
	if e, ok := errors.AsType[*UploadError](err); ok {
		return e.Status
	}
	return 0
}

// refusalOf is nil where there is no place for dead letters: then everything waits.
func (u *uploader) refusalOf(err error) *UploadError {
	if u.health.letters == nil {
		return nil
	}
	return refusalOf(err, u.traits)
}

func (u *uploader) redacted(err error) string {
	return shown(u.job.DestinationConf, err)
}

// bury keeps what was refused. While there is no room for it, it waits: nothing is
// dropped.
func (u *uploader) bury(ctx context.Context, s *sealed, refused []refusal) error {
	records := 0
	for _, r := range refused {
		letter, err := s.letter(u.partition, r, u.format)
		if err != nil {
			return err
		}
		letter.Reason = u.redacted(r.err)
		for attempt := 0; ; attempt++ {
			err := u.health.letters.AddDeadLetter(ctx, letter, u.health.letterLimits)
			if err == nil || errs.KindOf(err) == errs.NotFound { // the job was deleted meanwhile
				break
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := u.wait(ctx, attempt, s.Name, fmt.Errorf("error keeping a dead letter: %w", err)); err != nil {
				return err
			}
		}
		records += letter.Records
		u.metrics.buried(ctx, letter.Records)
	}
	message := fmt.Sprintf("%d of %d records of batch %s were refused (%s) and are dead letters", records, s.Records, s.BatchID, u.redacted(refused[0].err))
	u.health.Refused(time.Now(), message)
	u.log.WarnContext(ctx, "records were refused", "batch", s.BatchID, "records", records, "letters", len(refused), "error", u.redacted(refused[0].err))
	return nil
}

// wait is pause for a failure of ours.
func (u *uploader) wait(ctx context.Context, attempt int, object string, failure error) error {
	message := "error storing: the control plane's database is away"
	if e, ok := errors.AsType[*errs.Error](failure); ok {
		message = e.Message
	}
	return u.hold(ctx, stageLetter, pauseAfter(attempt, 0, dice()), attempt, object, message, failure.Error())
}

// pause records a failed try and waits for the next one.
func (u *uploader) pause(ctx context.Context, attempt int, object string, failure error) error {
	stage, asked := stageUpload, time.Duration(0)
	if e, ok := errors.AsType[*UploadError](failure); ok {
		asked = e.RetryAfter
		if e.Permanent {
			stage = stageRefused
		}
	}
	message := uploadMessage(u.job.DestinationConf, failure)
	u.metrics.retries.Add(ctx, 1, u.metrics.attrs)
	return u.hold(ctx, stage, pauseAfter(attempt, asked, dice()), attempt, object, message, message)
}

// hold tells of a failure and waits. Message is for the job's owner.
func (u *uploader) hold(ctx context.Context, stage string, wait time.Duration, attempt int, object, message, logged string) error {
	u.metrics.fail(ctx, stage)
	u.health.Failed(u.partition, time.Now(), message)
	if u.logged.allow(time.Now()) {
		u.log.WarnContext(ctx, "upload failed, trying again", "object", object, "stage", stage,
			"tries", attempt+1, "pause_ms", wait.Milliseconds(), "error", logged)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-u.stopping.Done():
		return errStopping
	case <-time.After(wait):
		return nil
	}
}
