package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
)

// EnsureTopic creates cfg.Topic unless it exists; an existing topic is left as it
// is, and needs no right to create one. With three replicas or more, two must have an
// event before it is confirmed (min.insync.replicas). Retention is a time on the broker's clock;
// zero keeps everything. It does not wait for a broker that is away.
func EnsureTopic(ctx context.Context, cfg Config, partitions, replication int, retention time.Duration) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	client := newClient(cfg)
	defer closeClient(client)
	_, err := topicPartitions(ctx, client, cfg.Topic)
	if !errors.Is(err, kafka.UnknownTopicOrPartition) {
		return cfg.Security.explain(err) // nil when it exists
	}
	answer, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{
		Topic: cfg.Topic, NumPartitions: partitions, ReplicationFactor: replication,
		ConfigEntries: topicConfig(replication, retention),
	}}})
	if err == nil {
		err = answer.Errors[cfg.Topic]
	}
	if err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s with %d partitions: %w", cfg.Topic, partitions, err)
	}
	return nil
}

// rollBelow is the retention below which a topic's segments are closed as often:
// Kafka deletes closed ones only, and would close one after a week or a gigabyte.
const rollBelow = 24 * time.Hour

// durableReplicas is how many there must be for a topic that takes nothing unless two
// have it: Kafka's default confirms what only the leader has, and the next broker to
// fail may take that with it. With fewer, one broker's restart would stop the topic.
const durableReplicas = 3

func topicConfig(replication int, retention time.Duration) []kafka.ConfigEntry {
	retentionMS := int64(-1)
	if retention > 0 {
		retentionMS = retention.Milliseconds()
	}
	entries := []kafka.ConfigEntry{
		{ConfigName: "retention.ms", ConfigValue: strconv.FormatInt(retentionMS, 10)},
		{ConfigName: "cleanup.policy", ConfigValue: "delete"},
	}
	if retention > 0 && retention < rollBelow {
		entries = append(entries, kafka.ConfigEntry{ConfigName: "segment.ms", ConfigValue: strconv.FormatInt(retentionMS, 10)})
	}
	if replication >= durableReplicas {
		entries = append(entries, kafka.ConfigEntry{ConfigName: "min.insync.replicas", ConfigValue: "2"})
	}
	return entries
}

// Ping asks one broker, over a new connection, for the partitions of cfg.Topic.
// Nil means that Kafka answers and that the topic is there.
func Ping(ctx context.Context, cfg Config) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var failed []error
	for _, broker := range cfg.Brokers {
		err := pingBroker(ctx, cfg, broker)
		if err == nil {
			return nil
		}
		failed = append(failed, fmt.Errorf("ask broker %s for topic %s: %w", broker, cfg.Topic, err))
	}
	return errors.Join(failed...)
}

func pingBroker(ctx context.Context, cfg Config, broker string) error {
	netConn, err := cfg.Security.dial(ctx, "tcp", broker)
	if err != nil {
		return err
	}
	conn := kafka.NewConn(netConn, "", 0)
	defer func() { _ = conn.Close() }() // its answer is read already
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	partitions, err := conn.ReadPartitions(cfg.Topic)
	err = cfg.Security.explain(err)
	if err == nil && len(partitions) == 0 {
		err = kafka.UnknownTopicOrPartition
	}
	return err
}

// listOffsets returns what was asked, by partition, or the first error.
func listOffsets(ctx context.Context, client *kafka.Client, topic string, ask []kafka.OffsetRequest) (map[int]kafka.PartitionOffsets, error) {
	answer, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: ask}})
	if err != nil {
		return nil, fmt.Errorf("list offsets of topic %s: %w", topic, err)
	}
	listed := map[int]kafka.PartitionOffsets{}
	for _, o := range answer.Topics[topic] {
		if o.Error != nil {
			return nil, fmt.Errorf("list offsets of %s/%d: %w", topic, o.Partition, o.Error)
		}
		listed[o.Partition] = o
	}
	for _, a := range ask {
		if _, ok := listed[a.Partition]; !ok {
			return nil, fmt.Errorf("list offsets of %s/%d: the answer lacks it", topic, a.Partition)
		}
	}
	return listed, nil
}
