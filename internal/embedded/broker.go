package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// minSessionTimeout is 1 s instead of Kafka's 6 s: on one machine a member that is silent for a second
	// is gone, and whoever takes its partitions over need not wait longer.
	minSessionTimeout = time.Second
	// sweepInterval between two looks for expired records.
	sweepInterval = time.Minute
	// segmentBytes bounds what a partition holds beyond its retention: files go as a whole.
	segmentBytes = "67108864"
	// neverMS is ten years: it keeps the broker's own retention sweep from running, see sweep.
	neverMS = "315360000000"
)

// Topic is a topic that the broker has from its start on.
type Topic struct {
	Name       string
	Partitions int32
	// Retention is how long a record is kept. Zero keeps records for ever: without a value on the topic
	// the broker never deletes.
	Retention time.Duration
}

// BrokerConfig says where the broker listens and what it keeps.
type BrokerConfig struct {
	Addr    string // loopback host:port; port 0 picks a free one
	DataDir string
	Topics  []Topic
	Logger  *slog.Logger // nil is silent
}

// Broker is a single-node Kafka inside this process. Its methods are safe for concurrent use.
type Broker struct {
	dir     string         // of the log
	cluster *kfake.Cluster // run's alone, as soon as that runs
	client  *kgo.Client    // for what the broker offers through the protocol alone
	addr    string
	log     *slog.Logger
	failed  chan struct{} // has one when the cluster could not store a batch
	close   func() error
}

// StartBroker opens the topics and groups in DataDir and serves them. It returns when the configured topics
// exist: a topic that exists already keeps its records and takes over the configured retention, and more
// partitions if more are asked for (never fewer, which Kafka cannot do).
//
// A record or an offset commit that was acknowledged is on disk and survives the death of the process or
// the machine; a batch of an idempotent producer that comes again is recognised after that, too. Started again on
// the same Addr and DataDir, it is the same broker to its clients. While it cannot write, it answers with what it
// has, and breaks off whoever produces.
func StartBroker(ctx context.Context, cfg BrokerConfig) (*Broker, error) {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	unlock, err := Lock(ctx, cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("start embedded Kafka: %w", err)
	}
	b := &Broker{dir: filepath.Join(cfg.DataDir, "log"), log: log, failed: make(chan struct{}, 1)}
	if err := b.open(ctx, cfg.Addr); err != nil {
		return nil, errors.Join(fmt.Errorf("start embedded Kafka in %s: %w", cfg.DataDir, err), unlock())
	}
	b.client, err = kgo.NewClient(kgo.SeedBrokers(b.addr))
	if err != nil {
		b.cluster.Close()
		return nil, errors.Join(fmt.Errorf("start embedded Kafka: %w", err), unlock())
	}

	running, stop := context.WithCancel(context.Background())
	var runner sync.WaitGroup
	b.close = sync.OnceValue(func() error {
		stop()
		runner.Wait()
		b.client.Close()
		b.cluster.Close()
		return unlock()
	})
	for _, topic := range cfg.Topics {
		if err := b.ensureTopic(ctx, topic); err != nil {
			return nil, errors.Join(fmt.Errorf("start embedded Kafka: topic %s: %w", topic.Name, err), b.Close())
		}
	}
	runner.Go(func() { b.run(running, cfg.Topics) })
	log.Info("embedded kafka serves", "addr", b.addr, "data_dir", cfg.DataDir)
	return b, nil
}

// Addr returns the address it listens on, with the port that was picked.
func (b *Broker) Addr() string { return b.addr }

// Close answers what it has accepted, writes its state down and closes every connection. Calling it again
// does nothing.
func (b *Broker) Close() error { return b.close() }

func (b *Broker) ensureTopic(ctx context.Context, topic Topic) error {
	retention := "-1"
	if topic.Retention > 0 {
		retention = strconv.FormatInt(topic.Retention.Milliseconds(), 10)
	}
	if b.cluster.TopicInfo(topic.Name) == nil {
		return b.cluster.CreateTopic(topic.Name, topic.Partitions, map[string]string{
			"retention.ms": retention, "segment.bytes": segmentBytes,
		})
	}
	if err := b.setRetention(ctx, topic.Name, retention); err != nil {
		return fmt.Errorf("set retention.ms to %s: %w", retention, err)
	}
	if int32(len(b.cluster.PartitionInfos(topic.Name))) < topic.Partitions { // #nosec G115 -- a count of partitions
		if err := b.growPartitions(ctx, topic); err != nil {
			return fmt.Errorf("grow to %d partitions: %w", topic.Partitions, err)
		}
	}
	return nil
}

func (b *Broker) setRetention(ctx context.Context, topic, retention string) error {
	alter := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Value, c.Op = "retention.ms", &retention, kmsg.IncrementalAlterConfigOpSet
	r.Configs = append(r.Configs, c)
	alter.Resources = append(alter.Resources, r)
	altered, err := alter.RequestWith(ctx, b.client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(altered.Resources[0].ErrorCode)
}

func (b *Broker) growPartitions(ctx context.Context, topic Topic) error {
	grow := kmsg.NewPtrCreatePartitionsRequest()
	t := kmsg.NewCreatePartitionsRequestTopic()
	t.Topic, t.Count = topic.Name, topic.Partitions
	grow.Topics = append(grow.Topics, t)
	grown, err := grow.RequestWith(ctx, b.client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(grown.Topics[0].ErrorCode)
}

// run applies the topics' retention, and starts the cluster anew when it could not store a batch, until ctx ends.
//
// The broker's own sweep must never run: it empties a partition that has been idle for the retention time,
// and an emptied partition starts again at offset 0 after a restart. Consumers identify what they have seen
// by offset, so that would lose records. Ours leaves the last record where it is.
func (b *Broker) run(ctx context.Context, topics []Topic) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.failed:
			b.reopen(ctx)
		case now := <-tick.C:
			for _, topic := range topics {
				if topic.Retention <= 0 {
					continue
				}
				if err := b.expire(ctx, topic.Name, now.Add(-topic.Retention)); err != nil && ctx.Err() == nil {
					b.log.Error("embedded kafka could not apply retention; the topic keeps growing", "topic", topic.Name, "error", err)
				}
			}
		}
	}
}

// expire deletes the records of a topic that are older than cutoff, except the last one of each partition.
// Disk space comes back a whole segment at a time.
func (b *Broker) expire(ctx context.Context, topic string, cutoff time.Time) error {
	list := kmsg.NewPtrListOffsetsRequest()
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	partitions := b.cluster.PartitionInfos(topic)
	for _, info := range partitions {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = info.Partition, cutoff.UnixMilli()
		t.Partitions = append(t.Partitions, p)
	}
	list.Topics = append(list.Topics, t)
	listed, err := list.RequestWith(ctx, b.client)
	if err != nil {
		return fmt.Errorf("find the first record after %s: %w", cutoff, err)
	}
	firstKept := map[int32]int64{} // -1: no record is younger
	for _, p := range listed.Topics[0].Partitions {
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
			return fmt.Errorf("find the first record after %s in partition %d: %w", cutoff, p.Partition, err)
		}
		firstKept[p.Partition] = p.Offset
	}
	for _, info := range partitions {
		keep, listed := firstKept[info.Partition]
		if !listed {
			continue
		}
		if last := info.HighWatermark - 1; keep < 0 || keep > last {
			keep = last
		}
		if keep <= info.LogStartOffset {
			continue
		}
		if err := b.cluster.DeleteRecords(topic, info.Partition, keep); err != nil {
			return fmt.Errorf("delete partition %d up to offset %d: %w", info.Partition, keep, err)
		}
	}
	return nil
}
