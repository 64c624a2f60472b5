package stream

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/telemetry"
)

const meterName = "tidegate/pipeline/stream"

var (
	stageProduce = metric.WithAttributes(attribute.String("stage", "produce"))
	stageSpool   = metric.WithAttributes(attribute.String("stage", "spool"))
)

// producerMetrics are the instruments of a Producer. What Stats has is read from
// there when somebody asks; only rare things are counted as they happen.
type producerMetrics struct {
	errors         metric.Int64Counter
	produceSeconds metric.Float64Histogram
}

// newProducerMetrics shows p for as long as the process's meters are there: what
// the last seconds of Run spooled or dropped is part of their last flush.
func newProducerMetrics(p *Producer) *producerMetrics {
	meter := telemetry.Meter(meterName)
	m := &producerMetrics{
		errors: must(meter.Int64Counter("tidegate_stream_errors_total",
			metric.WithDescription("Attempts that failed, by stage: produce, spool."))),
		produceSeconds: must(meter.Float64Histogram("tidegate_stream_produce_duration_seconds", metric.WithUnit("s"),
			metric.WithDescription("Time until Kafka confirmed or refused a batch."))),
	}
	count := func(name, description string) metric.Int64ObservableCounter {
		return must(meter.Int64ObservableCounter(name, metric.WithDescription(description)))
	}
	gauge := func(name, description string) metric.Int64ObservableGauge {
		return must(meter.Int64ObservableGauge(name, metric.WithDescription(description)))
	}
	eventsIn := count("tidegate_stream_events_in_total", "Events emitted.")
	bytesIn := count("tidegate_stream_bytes_in_total", "Bytes of the events emitted.")
	eventsOut := count("tidegate_stream_events_out_total", "Events that Kafka confirmed.")
	bytesOut := count("tidegate_stream_bytes_out_total", "Bytes, compressed, that Kafka confirmed.")
	spooled := count("tidegate_stream_events_spooled_total", "Events that went through the spool on disk.")
	repeat := count("tidegate_stream_events_repeat_possible_total",
		"Events sent again after an answer was lost, in a way that Kafka may not have recognised; it may hold them twice.")
	dropped := count("tidegate_stream_events_dropped_total", "Events lost, by reason.")
	damaged := count("tidegate_stream_spool_damaged_bytes_total", "Bytes of the spool that could not be read back.")
	refused := gauge("tidegate_stream_producer_ids_refused", "1 while Kafka gives no producer ids, and does not recognise what is sent again.")
	queueEvents := gauge("tidegate_stream_queue_events", "Events in memory, waiting for their batch.")
	queueBytes := gauge("tidegate_stream_queue_bytes", "Bytes in memory, waiting for their batch.")
	spoolBytes := gauge("tidegate_stream_spool_bytes", "Bytes of the spool on disk.")

	topic := attribute.String("topic", p.cfg.Topic)
	of := metric.WithAttributes(topic) // a process may have producers for several topics
	must(meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s := p.Stats()
		o.ObserveInt64(eventsIn, int64(s.EventsIn), of)
		o.ObserveInt64(bytesIn, int64(s.BytesIn), of)
		o.ObserveInt64(eventsOut, int64(s.EventsOut), of)
		o.ObserveInt64(bytesOut, int64(s.BytesOut), of)
		o.ObserveInt64(spooled, int64(s.EventsSpooled), of)
		o.ObserveInt64(repeat, int64(s.EventsRepeatPossible), of)
		for reason, n := range s.Dropped {
			o.ObserveInt64(dropped, int64(n), metric.WithAttributes(topic, attribute.String("reason", reason)))
		}
		o.ObserveInt64(damaged, int64(s.SpoolDamagedBytes), of)
		o.ObserveInt64(refused, oneIf(s.ProducerIDsRefused), of)
		o.ObserveInt64(queueEvents, int64(s.QueueEvents), of)
		o.ObserveInt64(queueBytes, int64(s.QueueBytes), of)
		o.ObserveInt64(spoolBytes, s.SpoolBytes, of)
		return nil
	}, eventsIn, bytesIn, eventsOut, bytesOut, spooled, repeat, dropped, damaged, refused, queueEvents, queueBytes, spoolBytes))
	return m
}

func oneIf(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

// must returns an instrument. The SDK refuses only names that break its rules,
// which every test that comes by here would show.
func must[T any](instrument T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("stream: declare a metric: %v", err))
	}
	return instrument
}
