package rollback

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"tidegate/internal/deploy"
)

func TestMetricsTellWhatHappened(t *testing.T) {
	reader := readMetrics(t)
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	w.fails(v2, 0.1)
	w.deploy(split{v1: 90, v2: 10})
	c := w.controller("a", w.fakes("a"))
	clk.advance(5 * time.Second)
	w.ratesDown = true
	if err := c.Step(t.Context()); err == nil {
		t.Error("step without rates succeeded")
	}
	w.ratesDown = false
	w.steps(c, clk, time.Second)
	clk.advance(5 * time.Second)
	w.steps(c, clk, time.Second)

	want := map[string]int64{
		"tidegate_rollback_steps_total{}":                        5,
		"tidegate_rollback_step_duration_seconds":                5,
		"tidegate_rollback_verdicts_total{verdict=error}":        1,
		"tidegate_rollback_verdicts_total{verdict=inconclusive}": 2,
		"tidegate_rollback_verdicts_total{verdict=fail}":         1,
		"tidegate_rollback_actions_total{action=rollback}":       1,
		"tidegate_rollback_errors_total{stage=rates}":            1,
		"tidegate_rollback_unwatched_scripts":                    0,
		"tidegate_rollback_active":                               1,
	}
	if diff := cmp.Diff(want, collect(t, reader)); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// See TestUnwatched: how it is said, once for each deployment, by the controller
// that has the lease.
func TestUnwatchedScriptIsCountedAndLoggedOnce(t *testing.T) {
	reader := readMetrics(t)
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	var logged bytes.Buffer
	c := w.controller("a", w.fakes("a"))
	c.Log = slog.New(slog.NewTextHandler(&logged, nil))
	expect := func(when string, count int64, lines int) {
		t.Helper()
		w.steps(c, clk, 10*time.Second)
		got := collect(t, reader)["tidegate_rollback_unwatched_scripts"]
		if n := strings.Count(logged.String(), "no version to go back to"); got != count || n != lines {
			t.Errorf("%s: %d scripts, %d lines, want %d and %d:\n%s", when, got, n, count, lines, logged.String())
		}
	}
	expect("the first version", 0, 0)
	w.deploy(split{v2: 100})
	expect("on trial", 0, 0)
	w.deployments = w.deployments[:1]
	w.deploy(split{v2: 90, v3: 10})
	w.deploy(split{v1: 50, v3: 50})
	expect("on trial against another", 0, 0)
	w.deployments = w.deployments[:1]
	expect("its baseline fell out", 1, 1)
	w.deploy(split{v1: 40, v3: 60})
	expect("deployed again", 1, 2)
	if !strings.Contains(logged.String(), "script=shop deployment_id="+w.deployments[0].ID) {
		t.Errorf("logged %s", logged.String())
	}
	clk.advance(leaseTTL)
	w.acquire(leaseName, "b", time.Hour)
	expect("another controller has the lease", 0, 2)
}

// Steps are counted with and without the lease, so that they tell nobody whether anybody judges.
func TestWhoJudgesSaysSo(t *testing.T) {
	reader := readMetrics(t)
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	c := w.controller("a", w.fakes("a"))
	expect := func(when string, want int64) {
		t.Helper()
		if got := collect(t, reader)["tidegate_rollback_active"]; got != want {
			t.Errorf("%s: active is %d, want %d", when, got, want)
		}
	}
	w.steps(c, clk, stepInterval)
	expect("with the lease", 1)
	clk.advance(leaseTTL)
	w.acquire(leaseName, "b", time.Hour)
	w.steps(c, clk, stepInterval)
	expect("another one has the lease", 0)
}

// readMetrics lets a test collect the metrics of the controllers that it makes.
func readMetrics(t *testing.T) sdkmetric.Reader {
	t.Helper()
	reader := sdkmetric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	t.Cleanup(func() { otel.SetMeterProvider(before) })
	return reader
}

func collect(t *testing.T, reader sdkmetric.Reader) map[string]int64 {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, m := range data.ScopeMetrics[0].Metrics {
		switch points := m.Data.(type) {
		case metricdata.Sum[int64]:
			for _, p := range points.DataPoints {
				got[m.Name+"{"+p.Attributes.Encoded(attribute.DefaultEncoder())+"}"] = p.Value
			}
		case metricdata.Histogram[float64]:
			got[m.Name] = int64(points.DataPoints[0].Count)
		case metricdata.Gauge[int64]:
			got[m.Name] = points.DataPoints[0].Value
		}
	}
	return got
}
