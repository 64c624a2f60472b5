package stream

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Who gives a session back does not wait for those who ask Kafka for one, and only an answer
// about rights is a refusal.
func TestSessionsWhileKafkaIsAsked(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(1)
	asked, hold := make(chan struct{}), make(chan struct{})
	b.control(initProducerIDKey, func(c *kfake.Cluster, _ kmsg.Request) (kmsg.Response, error, bool) {
		close(asked)
		c.SleepControl(func() { <-hold })
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

// A spool is full when Kafka is made anew, and the new cluster has given the producer id of
// a batch there to somebody else: that batch is not taken for a repeat of theirs.
func TestSpooledBatchThatHasAnIdentityOfAnotherCluster(t *testing.T) {
	before, after := startOwnBroker(t, kfake.ClusterID("before")), startOwnBroker(t, kfake.ClusterID("after"))
	dir := t.TempDir()
	p := newProducer(t, testProducer(t, before.topic(1), dir))
	mustAppend(t, p.spool, withHeader("mine"))
	if _, err := p.deliver(testContext(t), []batch{mustNext(t, p.spool)}, p.spool); err != nil {
		t.Fatal(err)
	}
	noted := *mustNext(t, p.spool).id // it died without took
	noError(t, p.spool.close())
	closeClient(p.client)

	cfg := after.topic(1)
	p = newProducer(t, testProducer(t, cfg, dir))
	cluster, _, err := topicMetadata(testContext(t), p.client, cfg.Topic)
	noError(t, err)
	theirs := noted
	theirs.cluster = cluster
	mustDeliver(t, p, boundBatch("theirs", time.Now(), theirs))
	run(t, p.Run)
	eventually(t, "the spool is sent", func() error {
		if s := p.Stats(); s.EventsOut != 2 || s.SpoolBytes != 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	if n, s := recordsIn(t, cfg), p.Stats(); n != 2 || s.EventsRepeatPossible != 1 {
		t.Errorf("the topic has %d records, want 2: %+v", n, s)
	}
}
