package runtime

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/telemetry"
)

// stateDown is the state of an endpoint whose monitor has something against it,
// whatever requests say.
const stateDown = "down"

// endpointStates are the values of the label state.
var endpointStates = []string{stateIn.String(), stateEjected.String(), stateHalfOpen.String(), stateDown}

// originMetrics count what becomes of endpoints. Versions and endpoints are no labels:
// there may be thousands of them. Which ones are out is in the log and in the
// reports of routers.
type originMetrics struct {
	ejections, retries, refusals, rejections, checks, waits metric.Int64Counter

	observed metric.Registration // ends with Backends, or a process with many would keep them all
}

// endpointCount is what the endpoints of all versions are at one moment.
type endpointCount struct {
	by     map[string]int64 // state
	inHand int64            // requests
}

// register declares the metrics; count is asked to add up the endpoints.
func (m *originMetrics) register(count func(*endpointCount)) error {
	meter := telemetry.Meter("tidegate/runtime")
	var errs [9]error
	counter := func(i int, name, help string) (c metric.Int64Counter) {
		c, errs[i] = meter.Int64Counter(name, metric.WithDescription(help))
		return c
	}
	m.ejections = counter(0, "tidegate_runtime_endpoint_ejections_total", "Times that an endpoint was taken out after failures in a row, or after a probe that failed, by kind of the last failure.")
	m.retries = counter(1, "tidegate_runtime_retries_total", "Requests that were sent to another endpoint of their version, or once more to the only one, by kind of the failure before.")
	m.refusals = counter(2, "tidegate_runtime_retries_refused_total", "Requests that were not sent again, because the retry budget was spent, by kind of their failure.")
	m.rejections = counter(3, "tidegate_runtime_requests_rejected_total", "Requests that were refused because every endpoint had max_requests in hand.")
	m.checks = counter(4, "tidegate_runtime_endpoint_checks_total", "Checks of endpoints by monitors, by result: pass or fail.")
	m.waits = counter(8, "tidegate_runtime_endpoint_check_waits_total", "Checks that had to wait until another of their account was over: an account has a bounded number under way.")
	var states metric.Int64ObservableGauge
	states, errs[5] = meter.Int64ObservableGauge("tidegate_runtime_endpoints",
		metric.WithDescription("Endpoints of versions with several of them, with a monitor or with a bound, by state. One that is half_open waits for a request that tells whether it is back; down is the word of a monitor."))
	var inHand metric.Int64ObservableGauge
	inHand, errs[6] = meter.Int64ObservableGauge("tidegate_runtime_endpoint_requests_in_flight",
		metric.WithDescription("Requests that endpoints of versions with several of them, with a monitor or with a bound, have in hand, bodies included."))
	m.observed, errs[7] = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		n := endpointCount{by: map[string]int64{}}
		count(&n)
		o.ObserveInt64(inHand, n.inHand)
		for _, state := range endpointStates {
			o.ObserveInt64(states, n.by[state], metric.WithAttributes(attribute.String("state", state)))
		}
		return nil
	}, states, inHand)
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("backends: declare metrics: %w", err)
	}
	return nil
}

func (m *originMetrics) ejected(kind string) {
	m.ejections.Add(context.Background(), 1, kindLabel(kind))
}

// retried may be called on nil, which counts nothing.
func (m *originMetrics) retried(kind string) {
	if m != nil {
		m.retries.Add(context.Background(), 1, kindLabel(kind))
	}
}

func (m *originMetrics) retryRefused(kind string) {
	m.refusals.Add(context.Background(), 1, kindLabel(kind))
}
func (m *originMetrics) overloaded() { m.rejections.Add(context.Background(), 1) }

func (m *originMetrics) checked(passed bool) {
	result := "pass"
	if !passed {
		result = "fail"
	}
	m.checks.Add(context.Background(), 1, metric.WithAttributes(attribute.String("result", result)))
}

// checkWaits may be called on nil, which counts nothing.
func (m *originMetrics) checkWaits() {
	if m != nil {
		m.waits.Add(context.Background(), 1)
	}
}

func kindLabel(kind string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("kind", kind))
}
