package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

// Leader returns the id of the broker that leads a partition, as the cluster knows it
// at this moment.
func (c *Cluster) Leader(ctx context.Context, topic string, partition int) (int, error) {
	partitions, err := c.partitions(ctx, topic)
	if err != nil {
		return 0, err
	}
	for _, p := range partitions {
		if p.ID == partition && p.Leader.ID > 0 {
			return p.Leader.ID, nil
		}
	}
	return 0, fmt.Errorf("partition %d of topic %s has no leader", partition, topic)
}

// awaitInSync returns when every partition of every topic is led by its first replica,
// which the controller sees to when it is asked, and all its replicas are in sync.
func (c *Cluster) awaitInSync(ctx context.Context) error {
	for {
		err := c.inSync(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (c *Cluster) inSync(ctx context.Context) error {
	partitions, err := c.partitions(ctx)
	if err != nil {
		return err
	}
	moved := map[string][]int{}
	for _, p := range partitions {
		if len(p.Isr) < len(p.Replicas) {
			return fmt.Errorf("of the replicas %v of %s/%d, %v are in sync", ids(p.Replicas), p.Topic, p.ID, ids(p.Isr))
		}
		if p.Leader.ID != p.Replicas[0].ID {
			moved[p.Topic] = append(moved[p.Topic], p.ID)
		}
	}
	client := c.client()
	for topic, partitions := range moved {
		_, err = client.ElectLeaders(ctx, &kafka.ElectLeadersRequest{Topic: topic, Partitions: partitions, Timeout: 5 * time.Second})
		if err == nil {
			err = fmt.Errorf("partitions %v of %s were led by other replicas than their first", partitions, topic)
		}
	}
	return err
}

func ids(brokers []kafka.Broker) []int {
	list := make([]int, len(brokers))
	for i, b := range brokers {
		list[i] = b.ID
	}
	return list
}

// partitions asks the first broker that answers; without topics, for all of them.
func (c *Cluster) partitions(ctx context.Context, topics ...string) ([]kafka.Partition, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var failed []error
	for _, b := range c.brokers {
		conn, err := (&kafka.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", b.addr)
		if err == nil {
			_ = conn.SetDeadline(time.Now().Add(time.Second)) // a paused broker accepts connections
			var partitions []kafka.Partition
			partitions, err = conn.ReadPartitions(topics...)
			_ = conn.Close() // it was read to its end
			if err == nil {
				return partitions, nil
			}
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

func (c *Cluster) client() *kafka.Client {
	return &kafka.Client{Addr: kafka.TCP(c.access.Plaintext...), Timeout: 10 * time.Second}
}
