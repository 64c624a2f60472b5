package stream

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/initproducerid"
)

// session is a producer id of Kafka, and how far its sequences are. It has one batch on
// its way at a time. A batch that fails keeps its identity, and nobody sends under that
// producer id any more: so it can come again at any time, in whatever order, and the
// partition's leader still has it as the latest of its producer.
type session struct {
	cluster  clusterID
	producer int64
	epoch    int16
	next     map[int32]int32 // the sequence of the next event, by partition
}

// identity returns that of a batch of so many events, and false when the sequence of the
// partition is used up.
func (s *session) identity(partition int32, events int) (*identity, bool) {
	next := s.next[partition]
	return &identity{s.cluster, s.producer, s.epoch, next, partition}, events <= math.MaxInt32-int(next)
}

// sessions are those that have no batch on its way. They are as many as batches were on
// their way at once.
type sessions struct {
	client *kafka.Client

	refused atomic.Bool // the latest answer: Kafka gives no producer ids

	asking sync.Mutex // held while Kafka is asked: who waits has the same question
	asked  time.Time  // when Kafka answered

	mu   sync.Mutex
	idle []*session
}

// refusedPause is for how long Kafka is not asked for a producer id after it refused one:
// rights change seldom.
const refusedPause = time.Minute

// take returns a session of the cluster for one batch, nil while Kafka refuses producer
// ids. When it was asked just now, refused is its answer.
func (s *sessions) take(ctx context.Context, cluster clusterID) (used *session, refused, err error) {
	if used = s.takeIdle(cluster); used != nil {
		return used, nil, nil
	}
	s.asking.Lock()
	defer s.asking.Unlock()
	if used = s.takeIdle(cluster); used != nil { // given back meanwhile
		return used, nil, nil
	}
	if s.refused.Load() && time.Since(s.asked) < refusedPause {
		return nil, nil, nil
	}
	used, refused, err = initProducer(ctx, s.client)
	if err == nil {
		s.refused.Store(refused != nil)
		s.asked = time.Now()
	}
	if used != nil {
		used.cluster = cluster
	}
	return used, refused, err
}

// takeIdle returns an idle session of the cluster, or nil, and forgets those of others.
func (s *sessions) takeIdle(cluster clusterID) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.idle) > 0 {
		last := len(s.idle) - 1
		used := s.idle[last]
		s.idle = s.idle[:last]
		if used.cluster == cluster {
			return used
		}
	}
	return nil
}

// give returns a session whose batch Kafka has confirmed.
func (s *sessions) give(used *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, used)
}

// initRequest is kafka-go's, without the method by which kafka-go would look for the
// coordinator of a transaction. Ours has none, and to look for it takes rights and makes
// Kafka's topic of transactions.
type initRequest initproducerid.Request

func (*initRequest) ApiKey() protocol.ApiKey { return protocol.InitProducerId } //nolint:revive // kafka-go's name for it

func (*initRequest) TypeKey() protocol.OverrideTypeKey { return initOverride }

const initOverride protocol.OverrideTypeKey = 1 // kafka-go has 0, of another request

func init() {
	protocol.RegisterOverride(&initRequest{}, &initproducerid.Response{}, initOverride)
}

// initProducer asks any broker for a producer id, for requestTimeout at most. A broker
// whose stock of them is empty says "not now" until it has others, which it gets by the
// thousand. refused is an answer that only other rights, or another broker, will change.
func initProducer(ctx context.Context, client *kafka.Client) (made *session, refused, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for attempt := 0; ; attempt++ {
		answer, err := client.Transport.RoundTrip(ctx, client.Addr, &initRequest{ProducerID: -1, ProducerEpoch: -1})
		if err != nil {
			return nil, nil, fmt.Errorf("ask Kafka for a producer id: %w", err)
		}
		a, ok := answer.(*initproducerid.Response)
		if !ok {
			return nil, nil, fmt.Errorf("ask Kafka for a producer id: the answer is a %T", answer)
		}
		code := kafka.Error(a.ErrorCode)
		if code == 0 {
			return &session{producer: a.ProducerID, epoch: a.ProducerEpoch, next: map[int32]int32{}}, nil, nil
		}
		err = fmt.Errorf("ask Kafka for a producer id: %w", code)
		switch {
		case isNoProducerForUs(code):
			return nil, err, nil
		case !code.Temporary():
			return nil, nil, err
		}
		if Sleep(ctx, Backoff(attempt)) != nil {
			return nil, nil, err
		}
	}
}

// isNoProducerForUs tells that Kafka answers, and gives us no producer id.
func isNoProducerForUs(code kafka.Error) bool {
	switch code {
	case kafka.ClusterAuthorizationFailed, kafka.TopicAuthorizationFailed, kafka.UnsupportedVersion:
		return true
	}
	return false
}
