package ingest

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// What goes wrong must be seen in the counters, with its reason.
func TestMetricsTellWhatHappened(t *testing.T) {
	reader := collected(t)
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
	eventually(t, "all is committed", func() bool { return p.settledAt(59) })
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

// collected makes what is declared from here on readable, until the test ends.
func collected(t *testing.T) *metric.ManualReader {
	reader := metric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	t.Cleanup(func() { otel.SetMeterProvider(before) })
	return reader
}

// The story: the lag was 0 until it was first looked up, and whatever it had been
// for as long as ClickHouse was away: on the chart of an outage everything was well.
func TestLagIsFreshOrAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := collected(t)
		const lag = "tidegate_ingest_lag_offsets"
		p, w := newFake(0, 0), &fakeWriter{}
		var stored atomic.Bool
		w.onInsert = func(context.Context, string) error {
			if !stored.Load() {
				return errors.New("away")
			}
			return nil
		}
		start(t, newIngest(t, w, nil), p)
		pass := func() {
			time.Sleep(15 * time.Second) // longer than any pause before another try
			synctest.Wait()
		}
		pass()
		if got, ok := series(t, reader, lag); ok {
			t.Errorf("before anything was read the lag is %v, want none", got)
		}
		for range 10 {
			p.write(good(p.next))
		}
		pass()
		for range 90 {
			p.write(good(p.next))
		}
		pass()
		if got, ok := series(t, reader, lag); got != 100 || !ok {
			t.Errorf("while ClickHouse is away the lag is %v, want 100", got)
		}
		set := func(err error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.away = err
		}
		set(errors.New("away"))
		pass()
		if got, ok := series(t, reader, lag); ok {
			t.Errorf("while Kafka is away too the lag is %v, want none", got)
		}
		set(nil)
		stored.Store(true)
		pass()
		if got, ok := series(t, reader, lag); got != 0 || !ok {
			t.Errorf("at the end the lag is %v, want 0", got)
		}
	})
}

// seriesValue is series for one that must be there.
func seriesValue(t *testing.T, reader *metric.ManualReader, name string, labels ...attribute.KeyValue) float64 {
	t.Helper()
	value, ok := series(t, reader, name, labels...)
	if !ok {
		t.Fatalf("there is no metric %s%v", name, labels)
	}
	return value
}

// series collects and returns the value of the series with exactly these labels,
// or with any where none are given; not ok when there is none.
func series(t *testing.T, reader *metric.ManualReader, name string, labels ...attribute.KeyValue) (value float64, ok bool) {
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
				return point(data.DataPoints, want)
			case metricdata.Sum[float64]:
				return point(data.DataPoints, want)
			case metricdata.Gauge[int64]:
				return point(data.DataPoints, want)
			case metricdata.Gauge[float64]:
				return point(data.DataPoints, want)
			}
		}
	}
	return 0, false
}

func point[N int64 | float64](points []metricdata.DataPoint[N], want attribute.Set) (float64, bool) {
	for _, p := range points {
		if want.Len() == 0 || p.Attributes.Equals(&want) {
			return float64(p.Value), true
		}
	}
	return 0, false
}
