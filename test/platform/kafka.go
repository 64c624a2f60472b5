package platform

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
)

// TopicRecords returns how many records a topic holds: the sum over partitions
// of the end offset less the first. brokers has commas between addresses. Nothing compacts our topics, so offsets have
// no gaps.
func TopicRecords(ctx context.Context, brokers, topic string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections() // the default one looks for the brokers for ever, also where another server is by then
	client := &kafka.Client{Addr: kafka.TCP(strings.Split(brokers, ",")...), Transport: transport}
	meta, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return 0, fmt.Errorf("count the records of %s: %w", topic, err)
	}
	request := &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{}}
	for _, t := range meta.Topics {
		for _, p := range t.Partitions {
			request.Topics[topic] = append(request.Topics[topic], kafka.FirstOffsetOf(p.ID), kafka.LastOffsetOf(p.ID))
		}
	}
	answer, err := client.ListOffsets(ctx, request)
	if err != nil {
		return 0, fmt.Errorf("count the records of %s: %w", topic, err)
	}
	var total int64
	for _, p := range answer.Topics[topic] {
		if p.Error != nil {
			return 0, fmt.Errorf("count the records of %s, partition %d: %w", topic, p.Partition, p.Error)
		}
		total += p.LastOffset - p.FirstOffset
	}
	return total, nil
}
