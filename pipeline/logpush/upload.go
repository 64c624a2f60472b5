package logpush

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

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
}

// deliver returns nil once a batch is dealt with, so that what lies behind it may
// be committed. It tries until then: its error is errStopping or ctx's.
func (u *uploader) deliver(ctx context.Context, s *sealed) (err error) {
	ctx, span := telemetry.Tracer("tidegate/pipeline/logpush").Start(ctx, "logpush.upload", trace.WithAttributes(
		attribute.Int64("job_id", s.JobID), attribute.String("batch_id", s.BatchID), attribute.Int("records", s.Records)))
	defer func() { telemetry.End(span, err) }()
	for attempt := 0; ; attempt++ {
		started := time.Now()
		err := u.sink.Put(ctx, s.Object)
		if err == nil {
			u.metrics.delivered(ctx, s, time.Since(started))
			u.health.Succeeded(u.partition, s.until)
			level := slog.LevelDebug
			if attempt > 0 { // the end of what was warned about
				level = slog.LevelInfo
			}
			u.log.Log(ctx, level, "batch delivered", "object", s.Name, "records", s.Records, "bytes", len(s.Body), "tries", attempt+1)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := u.pause(ctx, attempt, s.Name, err); err != nil {
			return err
		}
	}
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
	wait := pauseAfter(attempt, asked, dice())
	message := uploadMessage(u.job.DestinationConf, failure)
	u.metrics.fail(ctx, stage)
	u.health.Failed(u.partition, time.Now(), message)
	if u.logged.allow(time.Now()) {
		u.log.WarnContext(ctx, "upload failed, trying again", "object", object, "stage", stage,
			"tries", attempt+1, "pause_ms", wait.Milliseconds(), "error", message)
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
