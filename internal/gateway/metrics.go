package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/telemetry"
	"tidegate/schema"
)

// The label values that a request can have. Scripts and versions are no labels:
// there may be thousands of them; their numbers are in version_rates.
var (
	decisions = []string{
		schema.DecisionOverride, schema.DecisionAffinity, schema.DecisionSplit,
		schema.DecisionOnly, schema.DecisionObject, schema.DecisionPreview,
	}
	outcomes = []string{
		schema.OutcomeOK, schema.OutcomeCanceled, schema.OutcomeResponseStreamDisconnected,
		schema.OutcomeInternalError, schema.OutcomeExceededWallTime,
		schema.OutcomeException, schema.OutcomeExceededCPU, schema.OutcomeExceededMemory, schema.OutcomeUnknown,
	}
	invocationTypes = []string{
		"fetch", "scheduled", "alarm", "queue", "email", "tail", "worker_rpc", "hibernatable_web_socket", "other",
	}
	unmatchedReasons = []string{reasonLoop, reasonNoSnapshot, reasonBadTarget, reasonConnect, reasonMalformed, reasonUnknownHost, reasonNoDeployment}
	refusalReasons   = []string{refusedInvalid, refusedOlder}
	errorKinds       = []string{
		schema.ErrorKindConnect, schema.ErrorKindDNS, schema.ErrorKindTLS, schema.ErrorKindTimeout,
		schema.ErrorKindReset, schema.ErrorKindProtocol, schema.ErrorKindOverloaded, schema.ErrorKindOther,
	}
)

// metrics are plain counters, because an attribute set per request would cost
// more than picking a version; OpenTelemetry reads them when it collects.
type metrics struct {
	requests       [8][16]atomic.Int64 // by decision and outcome
	unmatched      [8]atomic.Int64     // by reason
	upstreamErrors [8]atomic.Int64     // by kind
	inFlight       atomic.Int64
	startWaiting   atomic.Int64
	invocations    [16]atomic.Int64 // that began inside the runtime, by event type
	unjoined       [8]atomic.Int64  // by reason
	dropped        atomic.Int64     // for dropUnknownVersion
	bindingCalls   atomic.Int64     // under way
	bindingRefused [8]atomic.Int64  // by reason
	rpcSessions    atomic.Int64
	reportErrors   atomic.Int64
	scheduledNow   atomic.Int64    // runs of schedules under way
	schedules      [8]atomic.Int64 // by result
	tailDropped    atomic.Int64    // copies of events beyond tailRate
	stalled        [2]atomic.Int64 // clients that were given up, by reason
	malformed      atomic.Int64    // invocations whose Event was no JSON

	snapshotErrors  atomic.Int64
	snapshotRefused [2]atomic.Int64 // by reason

	observed metric.Registration // see stopObserving
}

// index returns the place of s in a list of label values; a value outside it
// counts as the last one.
func index(list []string, s string) int {
	for i, v := range list {
		if v == s {
			return i
		}
	}
	return len(list) - 1
}

// count counts an exchange whose event is complete.
func (m *metrics) count(decision, outcome string) {
	m.requests[index(decisions, decision)][index(outcomes, outcome)].Add(1)
}

func (m *metrics) register(g *Gateway) error {
	meter := telemetry.Meter("tidegate/gateway")
	var errs [23]error
	counter := func(i int, name, help string) (c metric.Int64ObservableCounter) {
		c, errs[i] = meter.Int64ObservableCounter(name, metric.WithDescription(help))
		return c
	}
	gauge := func(i int, name, help string) (c metric.Float64ObservableGauge) {
		c, errs[i] = meter.Float64ObservableGauge(name, metric.WithDescription(help))
		return c
	}
	requests := counter(0, "tidegate_gateway_requests_total", "Requests that reached a script, by decision and outcome. Each has emitted one trace event, or is counted in another one's SampledOut.")
	unmatched := counter(1, "tidegate_gateway_unmatched_requests_total", "Requests that reached no script, by reason.")
	upstream := counter(2, "tidegate_gateway_upstream_errors_total", "Failures of backends, by kind.")
	inFlight := gauge(3, "tidegate_gateway_requests_in_flight", "Requests being served now, switched connections included.")
	revision := gauge(4, "tidegate_gateway_snapshot_revision", "Revision of the snapshot that is being served; 0 for none.")
	age := gauge(5, "tidegate_gateway_snapshot_age_seconds", "Time since the control plane last said that the snapshot being served is the newest. Absent without one.")
	failed := counter(6, "tidegate_gateway_snapshot_errors_total", "Snapshots that were not fetched in time or not kept on disk.")
	refused := counter(7, "tidegate_gateway_snapshot_refused_total", "Snapshots that were not fit to serve, by reason; older is what a control plane restored from a backup sends.")
	startWaiting := gauge(8, "tidegate_gateway_requests_waiting_for_start", "Requests that wait for a version which is starting.")
	heldBack := gauge(9, "tidegate_gateway_deployments_waiting", "Scripts whose newest deployment waits for its versions to start; the one before it serves.")
	invocations := counter(10, "tidegate_gateway_invocations_total", "Invocations of Workers that began inside the runtime, by event type. Each has emitted one trace event, or is counted in another one's SampledOut.")
	unjoined := counter(11, "tidegate_gateway_events_unjoined_total", "Trace events of Workers that went out without the runtime's half, by reason; late is a half that came after that and was dropped.")
	dropped := counter(12, "tidegate_gateway_events_dropped_total", "Trace events that were not emitted, by reason.")
	joinsWaiting := gauge(13, "tidegate_gateway_events_waiting", "Requests that have ended and whose trace event waits for the runtime's half.")
	malformed := counter(14, "tidegate_gateway_invocations_malformed_total", "Invocations whose Event was no JSON; their trace events have an empty one.")
	tailDropped := counter(15, "tidegate_gateway_tail_dropped_total", "Copies of events for people who watch a script that were not sent, because there were too many a second.")
	bindingCalls := gauge(16, "tidegate_gateway_binding_calls_in_flight", "Calls from Worker to Worker that are under way, RPC sessions included.")
	bindingRefused := counter(17, "tidegate_gateway_binding_calls_refused_total", "Calls from Worker to Worker that reached no version, by reason.")
	rpcSessions := counter(18, "tidegate_gateway_rpc_sessions_total", "RPC sessions between Workers that were opened.")
	schedules := counter(19, "tidegate_gateway_schedules_total", "Runs of schedules that were due, by what became of them; ran says that the handler was called.")
	scheduledNow := gauge(20, "tidegate_gateway_schedules_in_flight", "Runs of schedules that are under way.")
	reportErrors := counter(21, "tidegate_gateway_report_errors_total", "Attempts to tell the control plane of versions that cannot start, or serve again, that failed. They are repeated.")
	stalled := counter(22, "tidegate_gateway_client_timeouts_total", "Requests that were given up because their client did not send the rest of the body, or took nothing of the response, for too long, by reason.")
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("gateway: declare metrics: %w", err)
		}
	}

	var err error
	m.observed, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for i, decision := range decisions {
			for j, outcome := range outcomes {
				// One series is there from the start: what is divided by their sum is absent without any.
				if n := m.requests[i][j].Load(); n > 0 || i == 0 && j == 0 {
					o.ObserveInt64(requests, n, metric.WithAttributes(attribute.String("decision", decision), attribute.String("outcome", outcome)))
				}
			}
		}
		for i, reason := range unmatchedReasons {
			o.ObserveInt64(unmatched, m.unmatched[i].Load(), metric.WithAttributes(attribute.String("reason", reason)))
		}
		for i, kind := range errorKinds {
			o.ObserveInt64(upstream, m.upstreamErrors[i].Load(), metric.WithAttributes(attribute.String("kind", kind)))
		}
		o.ObserveFloat64(inFlight, float64(m.inFlight.Load()))
		for i, eventType := range invocationTypes {
			if n := m.invocations[i].Load(); n > 0 {
				o.ObserveInt64(invocations, n, metric.WithAttributes(attribute.String("event_type", eventType)))
			}
		}
		for i, reason := range unjoinedReasons {
			o.ObserveInt64(unjoined, m.unjoined[i].Load(), metric.WithAttributes(attribute.String("reason", reason)))
		}
		o.ObserveInt64(dropped, m.dropped.Load(), metric.WithAttributes(attribute.String("reason", dropUnknownVersion)))
		o.ObserveFloat64(bindingCalls, float64(m.bindingCalls.Load()))
		for i, reason := range bindingReasons {
			o.ObserveInt64(bindingRefused, m.bindingRefused[i].Load(), metric.WithAttributes(attribute.String("reason", reason)))
		}
		o.ObserveInt64(rpcSessions, m.rpcSessions.Load())
		for i, result := range scheduleResults {
			if n := m.schedules[i].Load(); n > 0 {
				o.ObserveInt64(schedules, n, metric.WithAttributes(attribute.String("result", result)))
			}
		}
		o.ObserveFloat64(scheduledNow, float64(m.scheduledNow.Load()))
		o.ObserveInt64(reportErrors, m.reportErrors.Load())
		for i, reason := range stallReasons {
			o.ObserveInt64(stalled, m.stalled[i].Load(), metric.WithAttributes(attribute.String("reason", reason)))
		}
		o.ObserveInt64(tailDropped, m.tailDropped.Load())
		o.ObserveInt64(malformed, m.malformed.Load())
		o.ObserveFloat64(joinsWaiting, float64(g.joins.waiting()))
		o.ObserveFloat64(startWaiting, float64(m.startWaiting.Load()))
		if t := g.table.Load(); t != nil {
			o.ObserveFloat64(heldBack, float64(t.waiting))
		}
		status := g.Status()
		o.ObserveFloat64(revision, float64(status.Revision))
		if !status.Confirmed.IsZero() {
			o.ObserveFloat64(age, time.Since(status.Confirmed).Seconds())
		}
		o.ObserveInt64(failed, m.snapshotErrors.Load())
		for i, reason := range refusalReasons {
			o.ObserveInt64(refused, m.snapshotRefused[i].Load(), metric.WithAttributes(attribute.String("reason", reason)))
		}
		return nil
	}, requests, unmatched, upstream, inFlight, revision, age, failed, refused, startWaiting, heldBack, invocations, unjoined, dropped, malformed, bindingCalls, bindingRefused, rpcSessions, schedules, scheduledNow, reportErrors, tailDropped, stalled, joinsWaiting)
	if err != nil {
		return fmt.Errorf("gateway: observe metrics: %w", err)
	}
	return nil
}

// EventsDropped counts the events that were not emitted since the start, by reason;
// reasons without any are left out. What was lost on the way to Kafka is not in it.
func (g *Gateway) EventsDropped() map[string]int64 {
	dropped := map[string]int64{}
	if n := g.metrics.dropped.Load(); n > 0 {
		dropped[dropUnknownVersion] = n
	}
	return dropped
}

// stopObserving ends with Run, or a process with many gateways would keep them all.
func (g *Gateway) stopObserving() error {
	if err := errors.Join(g.metrics.observed.Unregister(), g.sampler.observed.Unregister()); err != nil {
		return fmt.Errorf("gateway: stop observing metrics: %w", err)
	}
	return nil
}
