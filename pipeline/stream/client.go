package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

const (
	// clientID is how this program is called in the brokers' logs and quotas.
	clientID = "tidegate"

	// dialTimeout for one connection, TLS, login and API version exchange included.
	dialTimeout = 3 * time.Second
	// requestTimeout for one request and its answer. The broker gets half of it
	// to collect the acknowledgements of a produce.
	requestTimeout = 5 * time.Second
	// metadataTTL bounds how long a moved leader goes unnoticed. The metadata of
	// one topic is small, so it may be read more often than kafka-go's 6 s.
	metadataTTL = 2 * time.Second

	// logInterval is the shortest time between two lines about the same trouble.
	logInterval = 5 * time.Second
)

func (c Config) validate() error {
	if len(c.Brokers) == 0 {
		return errors.New("stream: Brokers is empty: name at least one host:port")
	}
	for _, b := range c.Brokers {
		if _, _, err := net.SplitHostPort(b); err != nil {
			return fmt.Errorf("stream: Brokers: %q is not host:port: %w", b, err)
		}
	}
	if c.Topic == "" {
		return errors.New("stream: Topic is empty")
	}
	return nil
}

// newClient returns a client with its own connections. The caller ends it with
// closeClient.
func newClient(cfg Config) *kafka.Client {
	return &kafka.Client{
		Addr:    kafka.TCP(cfg.Brokers...),
		Timeout: requestTimeout,
		Transport: &kafka.Transport{
			Dial:           cfg.Security.dial,
			DialTimeout:    dialTimeout,
			IdleTimeout:    30 * time.Second,
			MetadataTTL:    metadataTTL,
			MetadataTopics: []string{cfg.Topic},
			ClientID:       clientID,
		},
	}
}

func closeClient(c *kafka.Client) {
	c.Transport.(*kafka.Transport).CloseIdleConnections()
}

// topicPartitions returns the partitions of topic from the client's cached metadata.
func topicPartitions(ctx context.Context, client *kafka.Client, topic string) ([]kafka.Partition, error) {
	_, partitions, err := topicMetadata(ctx, client, topic)
	return partitions, err
}

// topicMetadata is topicPartitions, and which cluster has them.
func topicMetadata(ctx context.Context, client *kafka.Client, topic string) (clusterID, []kafka.Partition, error) {
	meta, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return clusterID{}, nil, fmt.Errorf("read the partitions of topic %s: %w", topic, err)
	}
	for _, t := range meta.Topics {
		if t.Name == topic && t.Error == nil {
			return clusterOf(meta.ClusterID), t.Partitions, nil
		}
	}
	return clusterID{}, nil, fmt.Errorf("read the partitions of topic %s: %w", topic, kafka.UnknownTopicOrPartition)
}

// led returns the ids of those partitions of topic that have a leader, at least one.
func led(topic string, partitions []kafka.Partition) ([]int, error) {
	var ids []int
	for _, p := range partitions {
		if p.Error == nil && p.Leader.Host != "" {
			ids = append(ids, p.ID)
		}
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("find a partition of topic %s with a leader: %w", topic, kafka.LeaderNotAvailable)
	}
	return ids, nil
}

// troubleLog writes at most one warning every logInterval, so that a broker that
// is away for an hour does not fill a disk. It is safe for concurrent use.
type troubleLog struct {
	logger *slog.Logger
	mu     sync.Mutex
	last   time.Time
	muted  int // since last
}

func (l *troubleLog) warn(ctx context.Context, msg string, err error, args ...any) {
	l.mu.Lock()
	if !l.last.IsZero() && time.Since(l.last) < logInterval {
		l.muted++
		l.mu.Unlock()
		return
	}
	muted := l.muted
	l.last, l.muted = time.Now(), 0
	l.mu.Unlock()
	args = append(args, "error", err.Error(), "muted", muted)
	l.logger.WarnContext(ctx, msg, args...)
}
