package ingest

import (
	"context"
	"errors"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// What goes wrong must be seen in the counters, with its reason.
func TestMetricsTellWhatHappened(t *testing.T) {
	reader := metric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	t.Cleanup(func() { otel.SetMeterProvider(before) })

	p, w := newFake(50, 7).committed(45, ""), &fakeWriter{}
	bad := good(57)
	bad.Account = ""
	p.write(bad)
	skewed := good(58)
	skewed.Time = noon.AddDate(1, 0, 0)
	p.write(skewed)
	failures := 2
	w.onInsert = func(context.Context, string) error {
		if failures--; failures >= 0 {
			return errors.New("refused")
		}
		return nil
	}
	stop := start(t, newIngest(t, w, nil), p)
	eventually(t, "all is committed", func() bool { offset, metadata, _ := p.Committed(); return offset == 59 && metadata == "" })
	blocked, lag := seriesValue(t, reader, "tidegate_ingest_blocked_seconds"), seriesValue(t, reader, "tidegate_ingest_lag_offsets")
	if blocked != 0 || lag != 0 {
		t.Errorf("after the block: blocked for %v s, lag %v, want 0", blocked, lag)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	f := func(want float64, name string, labels ...attribute.KeyValue) {
		t.Helper()
		if got := seriesValue(t, reader, name, labels...); got != want {
			t.Errorf("%s%v is %v, want %v", name, labels, got, want)
		}
	}
	f(9, "tidegate_ingest_events_in_total")
	f(8, "tidegate_ingest_events_out_total")
	f(1, "tidegate_ingest_events_quarantined_total", attribute.String("reason", reasonAccount))
	f(1, "tidegate_ingest_events_skewed_total")
	f(5, "tidegate_ingest_events_dropped_total", attribute.String("reason", reasonRetention))
	f(2, "tidegate_ingest_retries_total", attribute.String("reason", "refused"))
	f(2, "tidegate_ingest_errors_total", attribute.String("stage", "insert"))
}

// seriesValue collects and returns the value of the series with exactly these labels,
// or with any where none are given.
func seriesValue(t *testing.T, reader *metric.ManualReader, name string, labels ...attribute.KeyValue) float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	want := attribute.NewSet(labels...)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, point := range data.DataPoints {
					if len(labels) == 0 || point.Attributes.Equals(&want) {
						return float64(point.Value)
					}
				}
			case metricdata.Gauge[int64]:
				return float64(data.DataPoints[0].Value)
			case metricdata.Gauge[float64]:
				return data.DataPoints[0].Value
			}
		}
	}
	t.Fatalf("there is no metric %s%v", name, labels)
	return 0
}
