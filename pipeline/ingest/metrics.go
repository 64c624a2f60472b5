package ingest

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/telemetry"
	tables "tidegate/schema/clickhouse"
)

// Reasons for which an event never reached ClickHouse; values of the label
// "reason" of tidegate_ingest_events_dropped_total.
const (
	reasonRetention = "retention" // Kafka removed it before it was read
	reasonTruncated = "truncated" // Kafka lost the end of the partition, and with it a part of a planned block
	// Kafka lost the end of the partition after it was stored. These events are in
	// ClickHouse. Those that came behind them are lost in unknown number, and so are old
	// ones that were written since: see stream.OutOfRangeError.Resume.
	reasonRewound = "rewound"
	// It was deleted by request before it was stored: tables.ReasonDeleted.
)

type metrics struct {
	eventsIn      metric.Int64Counter
	bytesIn       metric.Int64Counter
	eventsOut     metric.Int64Counter
	quarantined   metric.Int64Counter
	skewed        metric.Int64Counter
	dropped       metric.Int64Counter
	errors        metric.Int64Counter
	retries       metric.Int64Counter
	blockRows     metric.Int64Histogram
	blockDuration metric.Float64Histogram
	age           metric.Float64Histogram
	waiting       metric.Float64Counter

	heldMax   int64        // half of Config.MemoryBytes: that of what was fetched
	heldBytes atomic.Int64 // fetched and not stored, all partitions

	mu      sync.Mutex
	readers map[*status]int // partition of each reader, guarded by mu
}

// status is what the gauges show of one partition. Its reader writes it.
type status struct {
	lag          atomic.Int64 // offsets that are not settled, when it was last looked, or lagUnknown
	blockedSince atomic.Int64 // Unix milliseconds of the first failure of the block in hand; 0 when it did not fail
}

// lagUnknown is shown as nothing at all.
const lagUnknown = -1

// What a reader waits for; values of the label "for" of tidegate_ingest_wait_seconds_total.
const (
	waitInsert = "insert" // one of Config.InsertsMax
	waitMemory = "memory" // its share of Config.MemoryBytes, or the block before
	// waitRemembered is that ClickHouse would not remember for long enough what was stored.
	waitRemembered = "remembered"
)

func newMetrics(s *slots, n *names, cfg Config) *metrics {
	meter := telemetry.Meter("tidegate/pipeline/ingest")
	count := func(name, description string) metric.Int64Counter {
		return must(meter.Int64Counter(name, metric.WithDescription(description)))
	}
	seconds := func(name, description string) metric.Float64Histogram {
		return must(meter.Float64Histogram(name, metric.WithDescription(description), metric.WithUnit("s"),
			metric.WithExplicitBucketBoundaries(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600)))
	}
	m := &metrics{
		eventsIn:    count("tidegate_ingest_events_in_total", "Records of settled blocks."),
		bytesIn:     count("tidegate_ingest_bytes_in_total", "Bytes of the records of settled blocks."),
		eventsOut:   count("tidegate_ingest_events_out_total", "Events stored in ClickHouse."),
		quarantined: count("tidegate_ingest_events_quarantined_total", "Records stored in the quarantine because they are no event, by reason."),
		skewed:      count("tidegate_ingest_events_skewed_total", "Events stored under their record's time because their own was far from it."),
		dropped:     count("tidegate_ingest_events_dropped_total", "Offsets that are not stored, by reason. Kafka no longer had them, at most: retention, truncated (of a planned block; some may be stored), rewound (all stored, of a partition that lost its end; what came behind, and old events that were written since, are lost uncounted). Deleted by request: deleted."),
		errors:      count("tidegate_ingest_errors_total", "Failures, by stage: insert, plan; stored, ClickHouse did not tell what it holds; behind, the group's offsets were not where ingest had been; hold, a wait for another partition's block."),
		retries:     count("tidegate_ingest_retries_total", "Inserts that failed and are tried again, by reason: unavailable, refused."),
		blockRows: must(meter.Int64Histogram("tidegate_ingest_block_rows", metric.WithDescription("Records of a block; the count is the number of blocks."),
			metric.WithExplicitBucketBoundaries(1, 10, 100, 1_000, 10_000, 50_000))),
		blockDuration: seconds("tidegate_ingest_block_duration_seconds", "Time to decode, store and commit a block, repeats included."),
		age:           seconds("tidegate_ingest_age_seconds", "Age of a block's oldest record when the block became visible."),
		waiting:       must(meter.Float64Counter("tidegate_ingest_wait_seconds_total", metric.WithDescription("Time that partitions waited, by what for: insert (for one of --ingest-inserts), memory (with the fetch of more, because enough is in memory), remembered (because ClickHouse would forget blocks too soon)."), metric.WithUnit("s"))),
		heldMax:       cfg.MemoryBytes / 2,
		readers:       map[*status]int{},
	}
	m.pressure(meter, s, n)
	lag := must(meter.Int64ObservableGauge("tidegate_ingest_lag_offsets", metric.WithDescription("Offsets that are not stored yet, by partition.")))
	blocked := must(meter.Float64ObservableGauge("tidegate_ingest_blocked_seconds", metric.WithUnit("s"),
		metric.WithDescription("How long ClickHouse has refused the block in hand, by partition; 0 when it has not.")))
	must(meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		for s, partition := range m.readers {
			of := metric.WithAttributes(attribute.String("partition", strconv.Itoa(partition)))
			if n := s.lag.Load(); n != lagUnknown {
				o.ObserveInt64(lag, n, of)
			}
			since := 0.0
			if ms := s.blockedSince.Load(); ms != 0 {
				since = time.Since(time.UnixMilli(ms)).Seconds()
			}
			o.ObserveFloat64(blocked, since, of)
		}
		return nil
	}, lag, blocked))
	return m
}

// pressure shows how full what is bounded is.
func (m *metrics) pressure(meter metric.Meter, s *slots, n *names) {
	held := must(meter.Int64ObservableGauge("tidegate_ingest_held_bytes", metric.WithUnit("By"),
		metric.WithDescription("Bytes of events in memory that are not stored, by where: fetched (as Kafka has them), blocks (decoded, columns and bodies of inserts not counted).")))
	heldMax := must(meter.Int64ObservableGauge("tidegate_ingest_held_bytes_max", metric.WithUnit("By"),
		metric.WithDescription("Bytes of fetched events at which partitions stop to fetch.")))
	inserts := must(meter.Int64ObservableGauge("tidegate_ingest_inserts", metric.WithDescription("Blocks that are being decoded and stored.")))
	insertsMax := must(meter.Int64ObservableGauge("tidegate_ingest_inserts_max", metric.WithDescription("Blocks that may be decoded and stored at once.")))
	names := must(meter.Int64ObservableGauge("tidegate_ingest_names",
		metric.WithDescription("Combinations of script, version and outcome in use, of the account with the most: those that this process stored in the last hour.")))
	namesMax := must(meter.Int64ObservableGauge("tidegate_ingest_names_max", metric.WithDescription("Combinations in use at which an account's further ones go to the quarantine.")))
	must(meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		where := func(name string) metric.ObserveOption { return metric.WithAttributes(attribute.String("where", name)) }
		o.ObserveInt64(held, m.heldBytes.Load(), where("fetched"))
		o.ObserveInt64(held, s.bytes.Load(), where("blocks"))
		o.ObserveInt64(heldMax, m.heldMax)
		o.ObserveInt64(inserts, int64(s.inUse()))
		o.ObserveInt64(insertsMax, int64(s.max))
		o.ObserveInt64(names, int64(n.most(time.Now())))
		o.ObserveInt64(namesMax, int64(n.max))
		return nil
	}, held, heldMax, inserts, insertsMax, names, namesMax))
}

// held counts bytes that were fetched, or, negative, stored.
func (m *metrics) held(bytes int64) { m.heldBytes.Add(bytes) }

// share is what each partition may hold of what was fetched.
func (m *metrics) share() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.heldMax / int64(max(1, len(m.readers)))
}

func (m *metrics) waited(ctx context.Context, what string, d time.Duration) {
	m.waiting.Add(ctx, d.Seconds(), metric.WithAttributes(attribute.String("for", what)))
}

// must is for instruments: their names are constants, so an error is a mistake
// that the first run shows.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// track shows a partition in the gauges until the function that it returns is called.
func (m *metrics) track(partition int, s *status) (untrack func()) {
	s.lag.Store(lagUnknown)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.readers[s] = partition
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.readers, s)
	}
}

// counts of a block, which are taken while it is in its slot.
type counts struct {
	records, bytes, events, skewed, deleted int64
	quarantined                             map[string]int64 // by reason
	first                                   time.Time        // of the first record; zero where there is none
}

func countsOf(s *slot) counts {
	c := counts{records: int64(len(s.records)), events: int64(s.block.events.Len()), skewed: int64(s.block.skewed), deleted: int64(s.block.deleted.Len())}
	for i := range s.records {
		c.bytes += int64(len(s.records[i].Value))
	}
	if len(s.records) > 0 {
		c.first = s.records[0].Time
	}
	if s.block.quarantine.Len() > 0 {
		c.quarantined = map[string]int64{}
		for _, reason := range s.block.quarantine.Reason {
			c.quarantined[reason]++
		}
	}
	return c
}

// settled counts a block that is stored and committed.
func (m *metrics) settled(ctx context.Context, c counts, took time.Duration) {
	m.eventsIn.Add(ctx, c.records)
	m.bytesIn.Add(ctx, c.bytes)
	m.eventsOut.Add(ctx, c.events)
	m.skewed.Add(ctx, c.skewed)
	for reason, n := range c.quarantined {
		m.quarantined.Add(ctx, n, metric.WithAttributes(attribute.String("reason", reason)))
	}
	if c.deleted > 0 {
		m.lost(ctx, tables.ReasonDeleted, c.deleted)
	}
	m.blockRows.Record(ctx, c.records)
	m.blockDuration.Record(ctx, took.Seconds())
	if !c.first.IsZero() {
		m.age.Record(ctx, time.Since(c.first).Seconds())
	}
}

// lost counts offsets that are not stored.
func (m *metrics) lost(ctx context.Context, reason string, offsets int64) {
	m.dropped.Add(ctx, offsets, metric.WithAttributes(attribute.String("reason", reason)))
}

func (m *metrics) failed(ctx context.Context, stage string) {
	m.errors.Add(ctx, 1, metric.WithAttributes(attribute.String("stage", stage)))
}

// retried counts an insert that failed and is tried again.
func (m *metrics) retried(ctx context.Context, reason string) {
	m.failed(ctx, "insert")
	m.retries.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", reason)))
}
