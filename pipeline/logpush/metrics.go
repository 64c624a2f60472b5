package logpush

import (
	"context"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/telemetry"
)

// Reasons for which an event of the job's account is not sent.
const (
	droppedLogpush   = "logpush_disabled" // its script's logpush is false
	droppedDeleted   = "deleted"          // by request
	droppedFilter    = "filter"           // the job's filter does not want it
	droppedSample    = "sample"           // not in the sample
	droppedMalformed = "malformed"        // not one JSON object
	droppedRetention = "retention"        // Kafka removed it too early; counts records of all accounts
	// A broker lost the end of a partition; counts records of all accounts that are
	// known to be gone, delivered ones among them.
	droppedTruncated   = "truncated"
	droppedUndecodable = "undecodable" // in a batch that cannot be decoded; counts records of all accounts
	droppedLong        = "too_long"    // formatted, it has more than logjob.RecordBytesMax
	// The job was switched on again: what it had not delivered before, and what came while
	// it was off. Counts records of all accounts.
	droppedOff      = "switched_off"
	droppedUnmarked = "unmarked" // in a replay: nobody knows whether its script's logpush was false
)

// metrics of the service; each is counted by job.
type metrics struct {
	in        metric.Int64Counter
	out       metric.Int64Counter
	dropped   metric.Int64Counter
	truncated metric.Int64Counter
	bytes     metric.Int64Counter
	gzipBytes metric.Int64Counter
	uploads   metric.Int64Counter
	closed    metric.Int64Counter
	fetches   metric.Int64Counter
	shared    metric.Int64Counter
	errors    metric.Int64Counter
	retries   metric.Int64Counter
	letters   metric.Int64Counter
	lettered  metric.Int64Counter
	duration  metric.Float64Histogram
	delay     metric.Float64Histogram
}

func newMetrics() (*metrics, error) {
	meter := telemetry.Meter("tidegate/pipeline/logpush")
	var m metrics
	var failed error
	counter := func(target *metric.Int64Counter, name, description string) {
		c, err := meter.Int64Counter(name, metric.WithDescription(description))
		*target = c
		if err != nil {
			failed = err
		}
	}
	histogram := func(target *metric.Float64Histogram, name, description string, buckets ...float64) {
		h, err := meter.Float64Histogram(name, metric.WithDescription(description), metric.WithUnit("s"),
			metric.WithExplicitBucketBoundaries(buckets...))
		*target = h
		if err != nil {
			failed = err
		}
	}
	counter(&m.in, "tidegate_logpush_events_in_total", "Events of a job's account that were read.")
	counter(&m.out, "tidegate_logpush_events_out_total", "Events that a destination accepted.")
	counter(&m.dropped, "tidegate_logpush_events_dropped_total", "Events that are not sent, by reason: logpush_disabled, deleted, filter, sample, malformed, retention, truncated, undecodable, too_long, switched_off, unmarked. Those of replays have replay=\"true\".")
	counter(&m.truncated, "tidegate_logpush_events_truncated_total", "Events whose Logs or Exceptions were cut to the budget.")
	counter(&m.bytes, "tidegate_logpush_bytes_total", "Uncompressed bytes that a destination accepted.")
	counter(&m.gzipBytes, "tidegate_logpush_gzip_bytes_total", "Compressed bytes that a destination of objects accepted; of records, a client compresses them by itself.")
	counter(&m.uploads, "tidegate_logpush_uploads_total", "Uploads that a destination accepted.")
	counter(&m.closed, "tidegate_logpush_batches_closed_early_total", "Batches that were closed before their bounds, because the memory for batches was used up.")
	counter(&m.fetches, "tidegate_logpush_fetches_total", "Fetches from the topic, for all jobs together.")
	counter(&m.shared, "tidegate_logpush_shared_reads_total", "Times that a job got records which were fetched for another one.")
	counter(&m.errors, "tidegate_logpush_errors_total", "Failures, by stage: open, upload, refused, letter.")
	counter(&m.retries, "tidegate_logpush_retries_total", "Uploads that are to be tried again after a pause.")
	counter(&m.letters, "tidegate_logpush_dead_letters_total", "Parts of batches that a destination refused for good.")
	counter(&m.lettered, "tidegate_logpush_dead_letter_records_total", "Records in parts of batches that a destination refused for good.")
	histogram(&m.duration, "tidegate_logpush_upload_duration_seconds", "Time of one accepted upload.",
		0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
	histogram(&m.delay, "tidegate_logpush_delay_seconds", "Age of a batch's oldest event when the destination has it.",
		0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 86400)
	return &m, failed
}

// jobMetrics counts for one job.
type jobMetrics struct {
	*metrics
	attrs     metric.MeasurementOption
	byReason  map[string]metric.MeasurementOption
	byFailure map[string]metric.MeasurementOption
	ledger    *ledger // nil: only counters
}

func (m *metrics) of(jobID int64, more ...attribute.KeyValue) *jobMetrics {
	job := append([]attribute.KeyValue{attribute.String("job", strconv.FormatInt(jobID, 10))}, more...)
	with := func(more ...attribute.KeyValue) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(append(more, job...)...))
	}
	j := &jobMetrics{metrics: m, attrs: with(),
		byReason: map[string]metric.MeasurementOption{}, byFailure: map[string]metric.MeasurementOption{}}
	for _, reason := range []string{droppedLogpush, droppedDeleted, droppedFilter, droppedSample, droppedMalformed, droppedRetention, droppedTruncated, droppedUndecodable, droppedLong, droppedOff, droppedUnmarked} {
		j.byReason[reason] = with(attribute.String("reason", reason))
	}
	for _, stage := range []string{stageOpen, stageUpload, stageRefused, stageLetter} {
		j.byFailure[stage] = with(attribute.String("stage", stage))
	}
	return j
}

// observe shows what is in memory for as long as the process's meters are there.
func (m *metrics) observe(with *shared) error {
	meter := telemetry.Meter("tidegate/pipeline/logpush")
	bytes, err := meter.Int64ObservableGauge("tidegate_logpush_memory_bytes",
		metric.WithDescription("Bytes of events in memory, by what they are in: batches, the cache."))
	if err != nil {
		return err
	}
	batches := metric.WithAttributes(attribute.String("in", "batches"))
	cache := metric.WithAttributes(attribute.String("in", "cache"))
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(bytes, with.budget.used.Load(), batches)
		o.ObserveInt64(bytes, with.chunks.size(), cache)
		return nil
	}, bytes)
	return err
}

// Stages of a failure.
const (
	stageOpen    = "open"    // the destination cannot be used as configured
	stageUpload  = "upload"  // it did not take an object, this time
	stageRefused = "refused" // it refused an object and will again
	stageLetter  = "letter"  // what it refused could not be kept
)

func (j *jobMetrics) fail(ctx context.Context, stage string) {
	j.errors.Add(ctx, 1, j.byFailure[stage])
}

func (j *jobMetrics) early(ctx context.Context) { j.closed.Add(ctx, 1, j.attrs) }

func (j *jobMetrics) drop(ctx context.Context, reason string, n int64) {
	if n > 0 {
		j.dropped.Add(ctx, n, j.byReason[reason])
		j.ledger.dropped(time.Now(), reason, n)
	}
}

// buried counts a dead letter.
func (j *jobMetrics) buried(ctx context.Context, records int) {
	j.letters.Add(ctx, 1, j.attrs)
	j.lettered.Add(ctx, int64(records), j.attrs)
}

func (j *jobMetrics) delivered(ctx context.Context, s *sealed, took time.Duration) {
	j.ledger.tried(time.Now(), s, statusTaken, true, took)
	j.out.Add(ctx, int64(s.Records), j.attrs)
	j.bytes.Add(ctx, s.size, j.attrs)
	if len(s.Body) > 0 { // else a client compresses records, by what it knows itself
		j.gzipBytes.Add(ctx, int64(len(s.Body)), j.attrs)
	}
	j.uploads.Add(ctx, 1, j.attrs)
	j.duration.Record(ctx, took.Seconds(), j.attrs)
	j.delay.Record(ctx, time.Since(s.oldest).Seconds(), j.attrs)
}
