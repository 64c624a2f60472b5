package app

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/api"
	"tidegate/internal/deploy"
	"tidegate/internal/telemetry"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

const (
	// TailRetention of the topic that viewers read: as long as a broker may be away
	// without anything missing.
	TailRetention = 10 * time.Minute
	// TailTopicPartitions of it: one keeps events in order.
	TailTopicPartitions = 1
	// feedSweepInterval bounds how long gateways copy events for a tail that has expired, and how
	// long a feed outlasts the idle time of its session.
	feedSweepInterval = 10 * time.Second
)

// tailFeed hands the records of a topic to those who watch. One reader serves all
// of them, and there is none while nobody watches. It implements api.TailEvents on
// the tail topic, and api.InstantEvents on that of trace events.
type tailFeed struct {
	config  stream.Config
	keyOf   func(*stream.Record) (key watched, dropped string)
	log     *slog.Logger
	dropped metric.Int64Counter

	mu       sync.RWMutex
	watchers map[watched]map[*tailWatcher]bool
	stop     func() // ends the reader and waits for it; nil while nobody watches
}

// watched is a script of an account, or with an empty script all of it.
type watched struct{ accountID, script string }

// tailWatcher is one call of Tail.
type tailWatcher struct{ deliver func(deploy.TailMessage) }

func newTailFeed(config stream.Config, log *slog.Logger) (*tailFeed, error) {
	return newFeed(config, scriptOf, log)
}

// newInstantFeed is the feed of all events of an account.
func newInstantFeed(config stream.Config, log *slog.Logger) (*tailFeed, error) {
	return newFeed(config, accountOf, log)
}

func newFeed(config stream.Config, keyOf func(*stream.Record) (watched, string), log *slog.Logger) (*tailFeed, error) {
	dropped, err := telemetry.Meter("tidegate/internal/app").Int64Counter("tidegate_tail_records_dropped_total",
		metric.WithDescription("Records that those who watch could not be given, by reason: unnamed, logpush_disabled."))
	return &tailFeed{config: config, keyOf: keyOf, log: log, dropped: dropped, watchers: map[watched]map[*tailWatcher]bool{}}, err
}

// scriptOf returns what a record of the tail topic belongs to, or why it is dropped.
func scriptOf(r *stream.Record) (key watched, dropped string) {
	key = watched{r.Account, r.Header(schema.HeaderScript)}
	if key.accountID == "" || key.script == "" {
		return key, "unnamed"
	}
	return key, ""
}

// accountOf returns whose trace event a record is, or why it is dropped.
func accountOf(r *stream.Record) (key watched, dropped string) {
	key.accountID = r.Account
	switch {
	case key.accountID == "":
		return key, "unnamed"
	case r.Header(schema.HeaderLogpush) == schema.LogpushDisabled:
		return key, "logpush_disabled"
	}
	return key, ""
}

// ownerOf returns whose trace event a record is, also one that no Logpush job gets.
func ownerOf(r *stream.Record) (key watched, dropped string) {
	if key.accountID = r.Account; key.accountID == "" {
		return key, "unnamed"
	}
	return key, ""
}

// Follow implements api.InstantEvents.
func (f *tailFeed) Follow(ctx context.Context, accountID string, deliver func(deploy.TailMessage)) error {
	return f.Tail(ctx, accountID, "", deliver)
}

// Tail implements api.TailEvents.
func (f *tailFeed) Tail(ctx context.Context, accountID, script string, deliver func(deploy.TailMessage)) error {
	key, w := watched{accountID, script}, &tailWatcher{deliver}
	f.join(key, w)
	<-ctx.Done()
	if stop := f.leave(key, w); stop != nil {
		stop()
	}
	return ctx.Err()
}

func (f *tailFeed) join(key watched, w *tailWatcher) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watchers[key] == nil {
		f.watchers[key] = map[*tailWatcher]bool{}
	}
	f.watchers[key][w] = true
	if f.stop == nil {
		f.start()
	}
}

// leave returns what ends the reader when nobody is left.
func (f *tailFeed) leave(key watched, w *tailWatcher) (stop func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.watchers[key], w)
	if len(f.watchers[key]) == 0 {
		delete(f.watchers, key)
	}
	if len(f.watchers) == 0 {
		stop, f.stop = f.stop, nil
	}
	return stop
}

// start begins to read at this moment. The lock is held.
func (f *tailFeed) start() {
	ctx, cancel := context.WithCancel(context.Background())
	since, ended := time.Now(), make(chan struct{})
	go func() {
		defer close(ended)
		err := stream.Follow(ctx, stream.FollowConfig{
			Config: f.config, Since: since, Logger: f.log,
			Handle: func(r *stream.Record) { f.hand(ctx, r) },
			Outage: func(err error) { f.tell(ctx, ofOutage(err)) },
			Late:   func(late bool) { f.tell(ctx, ofLateness(late)) },
		})
		if err != nil {
			f.log.Error("a topic cannot be followed", "topic", f.config.Topic, "error", err)
			f.tell(ctx, ofOutage(err))
		}
	}()
	f.stop = func() {
		cancel()
		<-ended
	}
}

// hand gives a record to those who watch what it belongs to.
func (f *tailFeed) hand(ctx context.Context, r *stream.Record) {
	key, dropped := f.keyOf(r)
	if dropped != "" {
		f.dropped.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", dropped)))
		return
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	if ctx.Err() != nil {
		return // a later reader has this record too
	}
	watchers := f.watchers[key]
	if len(watchers) == 0 {
		return
	}
	m := deploy.NewTailMessage(r.Header(schema.HeaderClientIP), bytes.Clone(r.Value))
	for w := range watchers {
		w.deliver(m)
	}
}

func ofOutage(err error) (notice string) {
	if err != nil {
		return "Kafka cannot be read at the moment: events will go on when it can"
	}
	return "Kafka can be read again: events go on, from where they stopped if that is still kept"
}

func ofLateness(late bool) (notice string) {
	if late {
		return "events come faster than this server reads them: those that are shown now happened a while ago"
	}
	return "this server has caught up: events are shown as they come"
}

// tell says to everybody how the feed does.
func (f *tailFeed) tell(ctx context.Context, notice string) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if ctx.Err() != nil {
		return
	}
	for _, watchers := range f.watchers {
		for w := range watchers {
			w.deliver(deploy.TailMessage{Notice: notice})
		}
	}
}

// tailEvents is the feed of this process, or nil without Kafka.
func (p *process) tailEvents() (api.TailEvents, error) {
	if len(p.config.Kafka) == 0 {
		return nil, nil
	}
	return newTailFeed(p.tailStream(), p.log)
}

// instantEvents is the other feed, or nil without Kafka.
func (p *process) instantEvents() (api.InstantEvents, error) {
	if len(p.config.Kafka) == 0 {
		return nil, nil
	}
	return newInstantFeed(p.stream(), p.log)
}

// liveEvents is the feed of all trace events, or nil without Kafka.
func (p *process) liveEvents() (api.InstantEvents, error) {
	if len(p.config.Kafka) == 0 {
		return nil, nil
	}
	return newFeed(p.stream(), ownerOf, p.log)
}

// addTails adds what keeps tails in order: the topic, the sweep of those that have
// expired, and at the end the wait for those who were still watching.
func (p *process) addTails(server *api.Server) {
	p.services = append(p.services, service{"tails", stageRouting, func(ctx context.Context) error {
		p.sweepFeeds(ctx)
		server.StopWaiting()
		server.WaitForViewers()
		return nil
	}})
	if len(p.config.Kafka) > 0 {
		p.services = append(p.services, p.tailTopicService())
	}
}

// sweepFeeds logs a failing database once an outage.
func (p *process) sweepFeeds(ctx context.Context) {
	ticker := time.NewTicker(feedSweepInterval)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		removed, err := p.store.SweepFeeds(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			p.log.WarnContext(ctx, "feeds that are over could not be removed, trying again", "error", err)
		case removed > 0:
			p.log.DebugContext(ctx, "removed feeds that are over", "count", removed)
		}
		failing = err != nil
	}
}
