package app

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"tidegate/pipeline/ingest"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// ingestGroup is the consumer group of every ingest process. The exactly-once
// protocol lives in its offsets: a new name counts everything again.
const ingestGroup = "tidegate-ingest"

// retryPause between two attempts to reach a server that is needed to begin.
const retryPause = 500 * time.Millisecond

// addIngest adds the reader that counts each event once in ClickHouse.
func (p *process) addIngest(context.Context) error {
	cfg := ingest.DefaultConfig(schema.Topic)
	cfg.InsertsMax, cfg.MemoryBytes, cfg.NamesMax = p.config.Ingest.Inserts, p.config.Ingest.MemoryBytes, p.config.Ingest.Names
	in, err := ingest.New(cfg, p.rates, p.log)
	if err != nil {
		return err
	}
	group := stream.NewGroup(stream.GroupConfig{Config: p.stream(), GroupID: ingestGroup, SessionTimeout: p.config.Ingest.SessionTimeout, Logger: p.log})
	var migrated atomic.Bool
	p.services = append(p.services, p.topicService(), service{"ingest", stageEdge, func(ctx context.Context) error {
		if err := p.untilDone(ctx, "bring the tables in ClickHouse up to date", p.rates.Migrate); err != nil {
			return err
		}
		migrated.Store(true)
		return group.Run(ctx, in.HandlePartition)
	}})
	p.checks = append(p.checks, p.kafkaCheck(), check{"clickhouse", func(ctx context.Context) error {
		if !migrated.Load() {
			return errors.New("the tables are not up to date yet")
		}
		return p.rates.Ping(ctx)
	}})
	return nil
}

// kafkaCheck is for the readers of the event topic.
func (p *process) kafkaCheck() check {
	return check{"kafka", func(ctx context.Context) error { return stream.Ping(ctx, p.stream()) }}
}

// topicService makes sure that the event topic exists, then waits for the stop.
func (p *process) topicService() service {
	return p.ensureTopic("topic", p.stream(), p.config.Topic.Partitions, p.config.Topic.Retention)
}

// tailTopicService does the same for the topic of what people watch.
func (p *process) tailTopicService() service {
	return p.ensureTopic("tail topic", p.tailStream(), TailTopicPartitions, TailRetention)
}

func (p *process) ensureTopic(name string, topic stream.Config, partitions int, retention time.Duration) service {
	return service{name, stageEdge, func(ctx context.Context) error {
		err := p.untilDone(ctx, "make the topic "+topic.Topic, func(ctx context.Context) error {
			return stream.EnsureTopic(ctx, topic, partitions, p.config.Topic.Replication, retention)
		})
		if err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}}
}

// untilDone repeats work until it succeeds or ctx ends, and logs the failures
// sparingly.
func (p *process) untilDone(ctx context.Context, what string, work func(context.Context) error) error {
	var logged time.Time
	for {
		err := work(ctx)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(logged) > 5*time.Second {
			p.log.WarnContext(ctx, "not possible yet, trying again", "what", what, "error", err)
			logged = time.Now()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryPause):
		}
	}
}
