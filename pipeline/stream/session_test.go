package stream

import (
	"errors"
	"testing"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Who gives a session back does not wait for those who ask Kafka for one, and only an answer
// about rights is a refusal.
func TestSessionsWhileKafkaIsAsked(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(1)
	asked, hold := make(chan struct{}), make(chan struct{})
	b.cluster.ControlKey(initProducerIDKey, func(kmsg.Request) (kmsg.Response, error, bool) {
		close(asked)
		b.cluster.SleepControl(func() { <-hold })
		answer := kmsg.NewPtrInitProducerIDResponse()
		answer.Version, answer.ErrorCode = 4, kerr.InvalidRequest.Code
		return answer, nil, true
	})
	client := newClient(cfg)
	defer closeClient(client)
	pool := &sessions{client: client}
	here := clusterOf("here")
	type answer struct{ refused, err error }
	answered := make(chan answer, 1)
	go func() {
		_, refused, err := pool.take(testContext(t), here)
		answered <- answer{refused, err}
	}()
	<-asked
	given := &session{cluster: here}
	pool.give(&session{cluster: clusterOf("elsewhere")})
	pool.give(given)
	if used, _, err := pool.take(testContext(t), here); used != given || err != nil {
		t.Errorf("took %+v, error %v, want what was given", used, err)
	}
	select {
	case a := <-answered:
		t.Errorf("Kafka's answer was waited for: %+v", a)
	default:
	}
	close(hold)
	if a := <-answered; a.refused != nil || !errors.Is(a.err, kafka.InvalidRequest) {
		t.Errorf("Kafka's answer is %+v, want an error that is no refusal", a)
	}
}
