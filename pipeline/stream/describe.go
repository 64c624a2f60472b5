package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
)

// Description is how Kafka keeps a topic. Settings that Kafka does not tell are nil.
type Description struct {
	Brokers    int
	Partitions int
	Replicas   int // of the partition that has the fewest
	InSync     int // of the partition that has the fewest that are up to date
	Leaderless int // partitions that nobody can read or write

	Retention        *time.Duration // negative: for ever
	MinInSync        *int
	OffsetsRetention *time.Duration // of the positions of groups that are away
}

// ErrNoTopic says that Kafka answers, and does not have the topic.
var ErrNoTopic = errors.New("the topic does not exist")

// Describe asks Kafka how it keeps cfg.Topic; ErrNoTopic if it has none of that name.
func Describe(ctx context.Context, cfg Config) (d Description, err error) {
	if err := cfg.validate(); err != nil {
		return d, err
	}
	client := newClient(cfg)
	defer closeClient(client)
	meta, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{cfg.Topic}})
	if err != nil {
		return d, fmt.Errorf("ask Kafka for topic %s: %w", cfg.Topic, cfg.Security.explain(err))
	}
	d.Brokers = len(meta.Brokers)
	partitions, err := topicPartitions(ctx, client, cfg.Topic)
	if errors.Is(err, kafka.UnknownTopicOrPartition) {
		return d, ErrNoTopic
	}
	if err != nil {
		return d, cfg.Security.explain(err)
	}
	d.Partitions = len(partitions)
	for i, p := range partitions {
		if i == 0 || len(p.Replicas) < d.Replicas {
			d.Replicas = len(p.Replicas)
		}
		if i == 0 || len(p.Isr) < d.InSync {
			d.InSync = len(p.Isr)
		}
		if p.Leader.Host == "" {
			d.Leaderless++
		}
	}
	topic, err := settingsOf(ctx, client, kafka.ResourceTypeTopic, cfg.Topic)
	if err != nil {
		return d, fmt.Errorf("ask for the settings of topic %s: %w", cfg.Topic, cfg.Security.explain(err))
	}
	d.Retention = asDuration(topic["retention.ms"], time.Millisecond)
	if n, err := strconv.Atoi(topic["min.insync.replicas"]); err == nil {
		d.MinInSync = &n
	}
	if len(meta.Brokers) > 0 { // all are to have the same
		broker, err := settingsOf(ctx, client, kafka.ResourceTypeBroker, strconv.Itoa(meta.Brokers[0].ID))
		if err == nil { // it takes a right that our processes do not need
			d.OffsetsRetention = asDuration(broker["offsets.retention.minutes"], time.Minute)
		}
	}
	return d, nil
}

func asDuration(text string, unit time.Duration) *time.Duration {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil
	}
	d := time.Duration(n) * unit
	if n > 0 && d/unit != time.Duration(n) { // more than 292 years
		d = -1
	}
	return &d
}

func settingsOf(ctx context.Context, client *kafka.Client, kind kafka.ResourceType, name string) (map[string]string, error) {
	answer, err := client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kind, ResourceName: name}},
	})
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	for _, resource := range answer.Resources {
		if resource.Error != nil {
			return nil, resource.Error
		}
		for _, entry := range resource.ConfigEntries {
			settings[entry.ConfigName] = entry.ConfigValue
		}
	}
	return settings, nil
}
