package stream

import (
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// The story: a producer took itself out of the metrics when Run returned. What its
// last seconds had spooled or dropped, while a process stopped during an outage,
// never reached the last flush.
func TestTheLastFlushSeesWhatAStoppedProducerDid(t *testing.T) {
	reader := metric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	t.Cleanup(func() { otel.SetMeterProvider(before) })
	// The producers of the tests that ran before are counted here, too.
	others := totals(t, reader)

	p := newProducer(t, testProducer(t, Config{Brokers: []string{"127.0.0.1:1"}, Topic: "t"}, t.TempDir()))
	r := run(t, p.Run)
	for range 3 {
		p.Emit("acme", []byte("v"))
	}
	r.stop(t)
	p.Emit("acme", []byte("too late"))

	got := totals(t, reader)
	for name, want := range map[string]int64{
		"tidegate_stream_events_in_total": 4, "tidegate_stream_events_spooled_total": 3, "tidegate_stream_events_dropped_total": 1,
	} {
		if n := got[name] - others[name]; n != want {
			t.Errorf("%s is %d after the stop, want %d", name, n, want)
		}
	}
}

// totals adds up every counter over its attributes.
func totals(t *testing.T, reader *metric.ManualReader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	sums := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if sum, ok := m.Data.(metricdata.Sum[int64]); ok {
				for _, point := range sum.DataPoints {
					sums[m.Name] += point.Value
				}
			}
		}
	}
	return sums
}
