package runtime

import (
	"log/slog"
	"net/http"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// What becomes of endpoints and of requests to them is counted, and nothing of a
// gateway that has closed.
func TestMetricsOfEndpoints(t *testing.T) {
	reader := newReader(t)
	a, c := newMoodyServer(t, "a"), newMoodyServer(t, "c")
	o := originOf(a, c)
	o.MaxRequests, o.Monitor = 1, healthMonitor(nil)
	const states = "tidegate_runtime_endpoints in"
	_, seenBefore := readMetrics(t, reader)[states] // of gateways of tests that ran before
	b, err := New(quickConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	others := readMetrics(t, reader)
	u := deployQuickly(b, o)
	get := func(name string) int64 { return readMetrics(t, reader)[name] - others[name] }
	want := func(name string, n int64) {
		t.Helper()
		if got := get(name); got != n {
			t.Errorf("%s is %d, want %d", name, got, n)
		}
	}
	waitFor(t, "checks that pass", func() bool { return get("tidegate_runtime_endpoint_checks_total pass") > 1 })
	want("tidegate_runtime_endpoint_checks_total fail", 0)
	want(states, 2)
	want("tidegate_runtime_endpoints ejected", 0)

	first, firstErr := u.RoundTrip(request(t, http.MethodGet, "/", ""))
	second, secondErr := u.RoundTrip(request(t, http.MethodGet, "/", ""))
	want("tidegate_runtime_endpoint_requests_in_flight", 2)
	resp, err := u.RoundTrip(request(t, http.MethodGet, "/", ""))
	wantKind(t, resp, err, schema.ErrorKindOverloaded)
	want("tidegate_runtime_requests_rejected_total", 1)
	readAll(t, first, firstErr)
	readAll(t, second, secondErr)
	want("tidegate_runtime_endpoint_requests_in_flight", 0)

	a.mood.Store(moodReset)
	waitFor(t, "the endpoint to be down", func() bool { return get("tidegate_runtime_endpoints down") == 1 })
	waitFor(t, "checks that fail", func() bool { return get("tidegate_runtime_endpoint_checks_total fail") > 1 })
	putInForce(b, &deploy.Snapshot{Revision: 2})
	want(states, 0)
	want("tidegate_runtime_endpoints down", 0)

	u = b.Update(deployedSnapshot(originOf(a, c)))[versionID].(*upstream)
	waitFor(t, "an ejection", func() bool { ask(t, u); return get("tidegate_runtime_endpoint_ejections_total reset") > 0 })
	if n := get("tidegate_runtime_retries_total reset"); n < failuresInARow {
		t.Errorf("%d retries are counted, want %d or more", n, failuresInARow)
	}
	u.retrying.Add(1 << 20) // others have spent the budget
	c.mood.Store(moodReset)
	waitFor(t, "a repeat to be refused", func() bool {
		resp, err := u.RoundTrip(request(t, http.MethodGet, "/", ""))
		if err == nil {
			readAll(t, resp, nil)
		}
		return get("tidegate_runtime_retries_refused_total reset") > 0
	})
	b.Close()
	if _, seen := readMetrics(t, reader)[states]; seen && !seenBefore {
		t.Error("a gateway that has closed is still observed")
	}
}

// newReader reads the metrics of what is made from now on.
func newReader(t *testing.T) *metric.ManualReader {
	t.Helper()
	reader := metric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	t.Cleanup(func() { otel.SetMeterProvider(before) })
	return reader
}

// readMetrics returns the values of counters and gauges by name and label.
func readMetrics(t *testing.T, reader *metric.ManualReader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	values := map[string]int64{}
	add := func(name string, points []metricdata.DataPoint[int64]) {
		for _, p := range points {
			if p.Attributes.Len() == 0 {
				values[name] += p.Value
			}
			for _, label := range p.Attributes.ToSlice() {
				values[name+" "+label.Value.AsString()] += p.Value
			}
		}
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				add(m.Name, data.DataPoints)
			case metricdata.Gauge[int64]:
				add(m.Name, data.DataPoints)
			}
		}
	}
	return values
}
