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
	producer int64
	epoch    int16
	next     map[int32]int32 // the sequence of the next event, by partition
}

// identity returns that of a batch of so many events, and false when the sequence of the
// partition is used up.
func (s *session) identity(partition int32, events int) (identity, bool) {
	next := s.next[partition]
	return identity{s.producer, s.epoch, next, partition}, events <= math.MaxInt32-int(next)
}

// sessions are those that have no batch on its way. They are as many as batches were on
// their way at once.
type sessions struct {
	client *kafka.Client

	refused atomic.Bool // the latest answer: Kafka gives no producer ids

	mu    sync.Mutex // held while Kafka is asked: who waits has the same question
	idle  []*session
	asked time.Time // when Kafka answered
}

// refusedPause is for how long Kafka is not asked for a producer id after it refused one:
// rights change seldom.
const refusedPause = time.Minute

// take returns a session for one batch, nil while Kafka refuses producer ids. When it
// was asked just now, refused is its answer.
func (s *sessions) take(ctx context.Context) (used *session, refused, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.idle); n > 0 {
		used = s.idle[n-1]
		s.idle = s.idle[:n-1]
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
	return used, refused, err
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
// thousand. An answer that time will not change is refused.
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
		if !code.Temporary() {
			return nil, err, nil
		}
		if Sleep(ctx, Backoff(attempt)) != nil {
			return nil, nil, err
		}
	}
}
