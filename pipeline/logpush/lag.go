package logpush

import (
	"context"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/logjob"
	"tidegate/internal/telemetry"
)

// lags are the gauges of all jobs. A job has series while it has partitions here.
type lags struct {
	mu   sync.Mutex
	jobs map[*lagGauge]bool
}

// lagGauge is what one job's gauges show. It belongs to its lags.
type lagGauge struct {
	lags    *lags
	attrs   metric.MeasurementOption
	known   bool // whether the next two are
	events  int64
	seconds float64
	aged    bool // whether seconds is known
	failing bool
}

func newLags() (*lags, error) {
	l := &lags{jobs: map[*lagGauge]bool{}}
	meter := telemetry.Meter("tidegate/pipeline/logpush")
	events, err := meter.Int64ObservableGauge("tidegate_logpush_lag_events",
		metric.WithDescription("Events in the partitions of this process that a job has not delivered or passed over, those of other accounts among them."))
	if err != nil {
		return nil, err
	}
	seconds, err := meter.Float64ObservableGauge("tidegate_logpush_lag_seconds", metric.WithUnit("s"),
		metric.WithDescription("Age of the oldest event in the partitions of this process that a job has not delivered or passed over."))
	if err != nil {
		return nil, err
	}
	failing, err := meter.Int64ObservableGauge("tidegate_logpush_failing",
		metric.WithDescription("1 while no upload of a job succeeds, on any machine; else 0."))
	if err != nil {
		return nil, err
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for g := range l.jobs {
			state := int64(0)
			if g.failing {
				state = 1
			}
			o.ObserveInt64(failing, state, g.attrs)
			if g.known {
				o.ObserveInt64(events, g.events, g.attrs)
			}
			if g.known && g.aged {
				o.ObserveFloat64(seconds, g.seconds, g.attrs)
			}
		}
		return nil
	}, events, seconds, failing)
	return l, err
}

func (l *lags) of(jobID int64) *lagGauge {
	g := &lagGauge{lags: l, attrs: metric.WithAttributes(attribute.String("job", strconv.FormatInt(jobID, 10)))}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.jobs[g] = true
	return g
}

// set shows a report.
func (g *lagGauge) set(r logjob.HealthReport, failingSince time.Time) {
	g.lags.mu.Lock()
	defer g.lags.mu.Unlock()
	g.known, g.aged, g.events, g.seconds = len(r.Partitions) > 0, true, 0, 0
	g.failing = !failingSince.IsZero()
	for _, p := range r.Partitions {
		g.events += p.Lag()
		switch {
		case p.Lag() == 0:
		case p.OldestOn.IsZero():
			g.aged = false
		default:
			g.seconds = max(g.seconds, r.At.Sub(p.OldestOn).Seconds())
		}
	}
}

func (g *lagGauge) end() {
	g.lags.mu.Lock()
	defer g.lags.mu.Unlock()
	delete(g.lags.jobs, g)
}
