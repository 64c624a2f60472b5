package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/telemetry"
)

const (
	// leaveTimeout for a member to say goodbye when it stops.
	leaveTimeout = 2 * time.Second
	// partitionWatchInterval bounds how long a new partition is not read.
	partitionWatchInterval = 5 * time.Second
)

// GroupConfig describes one member of a consumer group.
type GroupConfig struct {
	Config
	GroupID string
	// SessionTimeout is how long the broker waits for a member that fell silent
	// before it gives its partitions away. 10 s when zero; brokers refuse less
	// than 6 s by default.
	SessionTimeout time.Duration
	// RebalanceTimeout is how long a handler may take to return after its ctx
	// ended, before the others go on without this member. 15 s when zero.
	RebalanceTimeout time.Duration
	// Logger must be set.
	Logger *slog.Logger
}

// Group is one member of a consumer group.
type Group struct {
	cfg     GroupConfig
	trouble troubleLog
	// partitions of the topic, as known before the generation was joined. Owned by
	// Run until the first generation, then by watchPartitions.
	partitions int

	rebalances metric.Int64Counter
	errors     metric.Int64Counter
	attrs      attribute.KeyValue
}

// NewGroup returns a member that joins its group when it runs.
func NewGroup(cfg GroupConfig) *Group {
	if cfg.SessionTimeout == 0 {
		cfg.SessionTimeout = 10 * time.Second
	}
	if cfg.RebalanceTimeout == 0 {
		cfg.RebalanceTimeout = 15 * time.Second
	}
	g := &Group{cfg: cfg, trouble: troubleLog{logger: cfg.Logger}, attrs: attribute.String("group", cfg.GroupID)}
	meter := telemetry.Meter(meterName)
	g.rebalances = must(meter.Int64Counter("tidegate_stream_generations_total",
		metric.WithDescription("Generations of a consumer group that this member took part in.")))
	g.errors = must(meter.Int64Counter("tidegate_stream_group_errors_total",
		metric.WithDescription("Attempts of a group's member that failed, by stage: join, offsets, fetch, commit, handler.")))
	return g
}

// Run joins the group and runs handler, in one goroutine a partition, for the
// partitions the group gives to this member. A rebalance ends the ctx of every
// handler and waits for all of them before the next generation begins. An error
// from handler is logged, and the handler starts again for the same partition
// after a pause. Run returns nil when ctx has ended and every handler is done,
// and an error only for a configuration that can't work.
func (g *Group) Run(ctx context.Context, handler Handler) error {
	if err := g.cfg.validate(); err != nil {
		return err
	}
	if g.cfg.Logger == nil {
		return errors.New("stream: Logger is nil")
	}
	client := newClient(g.cfg.Config)
	defer closeClient(client)
	reader, err := NewReader(g.cfg.Config, g.cfg.Logger)
	if err != nil {
		return err
	}
	defer reader.Close()
	g.countPartitions(ctx, client)
	conns := &openConns{security: g.cfg.Security, conns: map[net.Conn]struct{}{}}
	for ctx.Err() == nil {
		if err := g.runMember(ctx, client, reader, conns, handler); err != nil {
			return err
		}
	}
	return nil
}

// runMember joins the group as a new member and leaves it when ctx has ended, or when
// the fate of a commit is not known and the group's generation is still the one that it
// names: the broker may then carry it out after later ones. The leave and the next join
// make another generation.
func (g *Group) runMember(ctx context.Context, client *kafka.Client, reader *Reader, conns *openConns, handler Handler) error {
	members, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:      g.cfg.GroupID,
		Brokers: g.cfg.Brokers,
		Topics:  []string{g.cfg.Topic},
		Dialer:  &kafka.Dialer{ClientID: clientID, Timeout: dialTimeout, DualStack: true, DialFunc: conns.dial},
		// Range gives member k the same partitions as long as the members stay.
		GroupBalancers:        []kafka.GroupBalancer{kafka.RangeGroupBalancer{}},
		HeartbeatInterval:     g.cfg.SessionTimeout / 10,
		SessionTimeout:        g.cfg.SessionTimeout,
		RebalanceTimeout:      g.cfg.RebalanceTimeout,
		JoinGroupBackoff:      time.Second,
		WatchPartitionChanges: false,             // see watchPartitions
		StartOffset:           kafka.FirstOffset, // not used: partitions look up their own
		Timeout:               requestTimeout,
	})
	if err != nil {
		return fmt.Errorf("join group %s: %w", g.cfg.GroupID, err)
	}

	doubtful := int32(-1) // the generation before, if a commit of it is in doubt
	for ctx.Err() == nil {
		generation, err := members.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				// kafka-go pauses for JoinGroupBackoff before it tries again.
				g.errors.Add(ctx, 1, metric.WithAttributes(g.attrs, attribute.String("stage", "join")))
				g.trouble.warn(ctx, "join consumer group", err, "group", g.cfg.GroupID)
			}
			continue
		}
		if generation.ID == doubtful {
			break // a member that joins again may get the generation that it had
		}
		g.rebalances.Add(ctx, 1, metric.WithAttributes(g.attrs))
		held := g.runGeneration(ctx, client, reader, generation, handler)
		if held.given.Load() {
			break
		}
		if held.unsure.Load() {
			doubtful = generation.ID
		}
	}
	// Close leaves the group at once, except while a join waits for the slowest
	// member. Breaking the connection ends that; the broker then forgets this
	// member after SessionTimeout.
	defer time.AfterFunc(leaveTimeout, conns.closeAll).Stop()
	if err := members.Close(); err != nil && !errors.Is(err, kafka.ErrGroupClosed) {
		return fmt.Errorf("leave group %s: %w", g.cfg.GroupID, err)
	}
	return nil
}

// runGeneration returns when every handler has returned, because the generation
// or ctx ended, or because this member has given it up. Unless it was the generation,
// heartbeats go on while handlers finish, and until the group is closed.
func (g *Group) runGeneration(ctx context.Context, client *kafka.Client, reader *Reader, generation *kafka.Generation, handler Handler) *tenure {
	runCtx, cancel := context.WithCancel(ctx)
	held := &tenure{generation: int(generation.ID), member: generation.MemberID, end: cancel}
	released := make(chan struct{})
	generation.Start(func(generationCtx context.Context) {
		g.watchPartitions(generationCtx, client)
		cancel()
		<-released // kafka-go joins the next generation when this returns
	})
	defer close(released)

	assigned := generation.Assignments[g.cfg.Topic]
	ids := make([]int, 0, len(assigned))
	for _, a := range assigned {
		ids = append(ids, a.ID)
	}
	slices.Sort(ids)
	g.cfg.Logger.InfoContext(ctx, "consumer group generation begins", "group", g.cfg.GroupID,
		"generation", generation.ID, "partitions", ids)

	var handlers sync.WaitGroup
	for _, id := range ids {
		handlers.Go(func() {
			g.runPartition(runCtx, handler, &partition{group: g, client: client, reader: reader, id: id, tenure: held})
		})
	}
	// A member without partitions waits for the next generation here.
	<-runCtx.Done()
	handlers.Wait()
	return held
}

// tenure is what the partitions of one generation have in common.
type tenure struct {
	generation int
	member     string
	end        context.CancelFunc // of the handlers' contexts
	// unsure is set when nobody knows whether a commit was, or is still to be, carried out.
	unsure atomic.Bool
	// given is set when this member gave the generation up because of that.
	given atomic.Bool
}

// giveUp ends the tenure, because no later commit of it would be safe from the one
// whose fate is not known.
func (t *tenure) giveUp() {
	t.given.Store(true)
	t.end()
}

// watchPartitions returns when the generation has ended, or the topic has another
// number of partitions than before the generation was joined. kafka-go's own watch
// compares with a number it reads after the join, and so never notices partitions
// that were added in between.
func (g *Group) watchPartitions(generationCtx context.Context, client *kafka.Client) {
	ticker := time.NewTicker(partitionWatchInterval)
	defer ticker.Stop()
	before := g.partitions
	for {
		select {
		case <-generationCtx.Done():
			g.countPartitions(context.WithoutCancel(generationCtx), client)
			return
		case <-ticker.C:
		}
		if g.countPartitions(generationCtx, client); g.partitions != before {
			g.cfg.Logger.InfoContext(generationCtx, "topic has other partitions, joining again", "group", g.cfg.GroupID,
				"topic", g.cfg.Topic, "partitions", g.partitions, "before", before)
			return
		}
	}
}

// countPartitions leaves the number as it is when Kafka does not tell.
func (g *Group) countPartitions(ctx context.Context, client *kafka.Client) {
	if partitions, err := topicPartitions(ctx, client, g.cfg.Topic); err == nil {
		g.partitions = len(partitions)
	}
}

// runPartition runs handler until ctx ends. Each start sees the group's offset as
// the broker has it, because the fate of a commit that failed is not known.
func (g *Group) runPartition(ctx context.Context, handler Handler, p *partition) {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		if err := p.reset(ctx); err != nil {
			return // ctx ended
		}
		started := time.Now()
		err := handler(ctx, p)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrFenced) {
			// The group went on without this member; the next heartbeat says so and
			// ends ctx. Starting again would only repeat what another member does.
			<-ctx.Done()
			return
		}
		if err == nil {
			err = errors.New("handler returned before its partition was taken away")
		}
		if time.Since(started) > time.Minute {
			attempt = 0
		}
		g.errors.Add(ctx, 1, metric.WithAttributes(g.attrs, attribute.String("stage", "handler")))
		pause := Backoff(attempt)
		g.cfg.Logger.ErrorContext(ctx, "partition handler failed, starting it again", "group", g.cfg.GroupID,
			"partition", p.id, "pause_ms", pause.Milliseconds(), "error", err.Error())
		if Sleep(ctx, pause) != nil {
			return
		}
	}
}

// openConns remembers the connections of a consumer group, because kafka-go waits
// for the answer to a join with no way to break it off.
type openConns struct {
	security Security
	mu       sync.Mutex
	conns    map[net.Conn]struct{}
}

func (o *openConns) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := o.security.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.conns[conn] = struct{}{}
	return &trackedConn{Conn: conn, open: o}, nil
}

func (o *openConns) closeAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for conn := range o.conns {
		_ = conn.Close() // the reader of conn sees the error
	}
}

type trackedConn struct {
	net.Conn
	open *openConns
}

func (c *trackedConn) Close() error {
	c.open.mu.Lock()
	delete(c.open.conns, c.Conn)
	c.open.mu.Unlock()
	return c.Conn.Close()
}
