package rollback

import (
	"errors"

	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/telemetry"
)

type metrics struct {
	steps     metric.Int64Counter
	verdicts  metric.Int64Counter
	actions   metric.Int64Counter
	errors    metric.Int64Counter
	duration  metric.Float64Histogram
	unwatched metric.Int64Gauge
	active    metric.Int64Gauge
	evidence  metric.Float64Gauge
}

func newMetrics() (metrics, error) {
	meter := telemetry.Meter("tidegate/rollback")
	var m metrics
	var err [8]error
	m.steps, err[0] = meter.Int64Counter("tidegate_rollback_steps_total",
		metric.WithDescription("Steps of the rollback controller, with and without the lease."))
	m.verdicts, err[1] = meter.Int64Counter("tidegate_rollback_verdicts_total",
		metric.WithDescription("Judgements of scripts with a version on trial, by verdict."))
	m.actions, err[2] = meter.Int64Counter("tidegate_rollback_actions_total",
		metric.WithDescription("What was done and stored: rollback, pause, notify, or ramp for a ramp's deployment."))
	m.errors, err[3] = meter.Int64Counter("tidegate_rollback_errors_total",
		metric.WithDescription("Failed calls, by stage: lease, watched, rates, apply."))
	m.duration, err[4] = meter.Float64Histogram("tidegate_rollback_step_duration_seconds",
		metric.WithUnit("s"), metric.WithDescription("Duration of one step over all watched scripts, as far as they are judged in the time of a step."))
	m.unwatched, err[5] = meter.Int64Gauge("tidegate_rollback_unwatched_scripts",
		metric.WithDescription("Scripts with an enabled policy whose deployment cannot be judged, because no version to go back to is known, a rollback put back one that was on trial itself, or it is dated ahead of the clock; 0 without the lease."))
	m.evidence, err[6] = meter.Float64Gauge("tidegate_rollback_evidence",
		metric.WithDescription("The most evidence against any version on trial, by limit, as a part of what it takes to act: at 1 a version is acted upon. Both are logarithms."))
	m.active, err[7] = meter.Int64Gauge("tidegate_rollback_active",
		metric.WithDescription("1 while this controller is the one that judges: it has the lease, and has read what is watched; 0 else."))
	return m, errors.Join(err[:]...)
}
