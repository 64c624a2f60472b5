package app

import (
	"context"
	"maps"
	"sync"
	"time"

	"tidegate/internal/clickhouse"
	"tidegate/internal/gateway"
	"tidegate/internal/store"
	"tidegate/pipeline/stream"
	"tidegate/schema/control"
)

// probeTimeout of one part, as long as one request to Kafka may take. A page that asks how
// things are must not hang because something does.
const probeTimeout = 5 * time.Second

// systemProbe asks every part of the platform how it is. It implements api.System.
type systemProbe struct {
	store  *store.Store
	rates  *clickhouse.DB
	stream stream.Config
}

// SystemFacts asks all parts at once.
func (s systemProbe) SystemFacts(ctx context.Context) control.SystemFacts {
	facts := control.SystemFacts{Build: ThisBuild()}
	var all sync.WaitGroup
	ask := func(answer *control.Answer, question func(ctx context.Context) error) {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, probeTimeout)
			defer cancel()
			begun := time.Now()
			answer.Err = question(ctx)
			answer.Took = time.Since(begun)
		})
	}
	ask(&facts.Database, func(ctx context.Context) error { return s.store.SystemFacts(ctx, &facts) })
	ask(&facts.Kafka, func(ctx context.Context) error {
		lags, ages, err := stream.Lags(ctx, s.stream, ingestGroup)
		facts.Ages = ages
		for _, l := range lags {
			facts.Ingest = append(facts.Ingest, control.PartitionLag(l))
		}
		return err
	})
	ask(&facts.Engine, s.rates.Ping)
	ask(&facts.Newest, func(ctx context.Context) (err error) {
		facts.NewestOn, err = s.rates.NewestEvent(ctx)
		return err
	})
	all.Wait()
	return facts
}

// routerReporter tells the control plane how this gateway does, and that it stops.
type routerReporter struct {
	id       string
	started  time.Time
	gateway  *gateway.Gateway
	producer *stream.Producer
	spoolMax int64
	// serving is closed when the gateway has taken over: until then another process reports
	// under its id. Nil: there is none to take over from.
	serving <-chan struct{}
	save    func(ctx context.Context, r control.RouterState) error
	failed  func(err error)

	dropped   map[string]int64
	droppedOn time.Time
}

// Run reports from when the gateway serves until ctx ends, and then says good-bye. A control plane that is away, or
// too old to listen, changes nothing for the gateway.
func (r *routerReporter) Run(ctx context.Context) error {
	if r.serving != nil {
		select {
		case <-r.serving:
		case <-ctx.Done():
			return nil
		}
	}
	every := time.NewTicker(control.RouterReportEvery)
	defer every.Stop()
	for {
		r.tell(ctx, false)
		select {
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			r.tell(ctx, true)
			return nil
		case <-every.C:
		}
	}
}

func (r *routerReporter) tell(ctx context.Context, stopping bool) {
	ctx, cancel := context.WithTimeout(ctx, control.RouterReportEvery)
	defer cancel()
	if err := r.save(ctx, r.state(time.Now(), stopping)); err != nil {
		r.failed(err)
	}
}

func (r *routerReporter) state(now time.Time, stopping bool) control.RouterState {
	sync, events := r.gateway.Status(), r.producer.Stats()
	dropped := r.gateway.EventsDropped()
	for reason, n := range events.Dropped {
		if n > 0 {
			dropped[reason] += int64(n) // #nosec G115 -- a count of events
		}
	}
	if !maps.Equal(dropped, r.dropped) {
		r.dropped, r.droppedOn = dropped, now
	}
	state := control.RouterState{
		ID: r.id, Version: ThisBuild().Version, StartedOn: r.started, Revision: sync.Revision, ConfirmedOn: sync.Confirmed,
		EventsEmitted: int64(events.EventsIn), EventsSent: int64(events.EventsOut), QueueEvents: int64(events.QueueEvents), // #nosec G115 -- counts of events
		SpoolBytes: events.SpoolBytes, SpoolBytesMax: r.spoolMax, Dropped: dropped, ProducerIDsRefused: events.ProducerIDsRefused, SentOn: now, Stopping: stopping,
	}
	if len(dropped) > 0 {
		state.DroppedOn = r.droppedOn
	}
	if sync.SyncError != nil {
		state.SnapshotError = sync.SyncError.Error()
	}
	return state
}
