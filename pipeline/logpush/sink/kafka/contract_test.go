package kafka

import (
	"bytes"
	"errors"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

func TestContract(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Subject {
		var broker string
		var stall func() <-chan struct{}
		var revoke func() (restore func())
		if os.Getenv(external) == "" {
			broker, stall, revoke = unruly(t)
		} else { // another cluster cannot be made to
			broker = cluster(t)
		}
		name := topic(t, broker)
		return sinktest.Subject{
			Sink: open(t, "kafka://"+broker+"/"+name+"?transport=plaintext", loopback),
			Stored: func(o logpush.Object) ([]byte, bool) {
				texts := taken(t, broker, name)[o.BatchID]
				return bytes.Join(texts, []byte("\n")), texts != nil
			},
			Count: func() int { return len(taken(t, broker, name)) },
			Break: func() { remove(t, broker, name) },
			Stall: stall, Revoke: revoke,
		}
	})
}

// unruly is a broker of the test's own. Once stall was called, it takes messages and says nothing. Once revoke was, it takes
// a batch of the next object's, and refuses all others until restore is called.
func unruly(t *testing.T) (broker string, stall func() <-chan struct{}, revoke func() (restore func())) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	t.Cleanup(func() {
		close(over)
		c.Close()
	})
	stall = func() <-chan struct{} {
		hangs := make(chan struct{})
		var once sync.Once
		c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			once.Do(func() { close(hangs) })
			c.SleepControl(func() { <-over })
			return nil, net.ErrClosed, true
		})
		return hangs
	}
	revoke = func() func() {
		var asked, restored atomic.Bool
		c.ControlKey(int16(kmsg.Produce), func(q kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			if restored.Load() || asked.CompareAndSwap(false, true) {
				return nil, nil, false
			}
			return refused(q.(*kmsg.ProduceRequest), kerr.TopicAuthorizationFailed), nil, true
		})
		return func() { restored.Store(true) }
	}
	return c.ListenAddrs()[0], stall, revoke
}

// taken returns what a reader has of a topic who counts each message once: the texts of
// each batch, in order.
func taken(t *testing.T, broker, topic string) map[string][][]byte {
	t.Helper()
	batches := map[string]map[int][]byte{}
	for _, m := range consume(t, broker, topic, written(t, broker, topic, 3)) {
		headers := map[string]string{}
		for _, h := range m.Headers {
			headers[h.Key] = string(h.Value)
		}
		record, err := strconv.Atoi(headers[HeaderRecord])
		if err != nil {
			t.Fatal(err)
		}
		id := headers[HeaderBatchID]
		if batches[id] == nil {
			batches[id] = map[int][]byte{}
		}
		batches[id][record] = m.Value
	}
	texts := map[string][][]byte{}
	for id, records := range batches {
		var places []int
		for place := range records {
			places = append(places, place)
		}
		slices.Sort(places)
		for _, place := range places {
			texts[id] = append(texts[id], records[place])
		}
	}
	return texts
}

// written returns how many messages a topic has, repeated ones included.
func written(t *testing.T, broker, topic string, partitions int32) (n int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	request, asked := kmsg.NewPtrListOffsetsRequest(), kmsg.NewListOffsetsRequestTopic()
	asked.Topic = topic
	for partition := range partitions {
		end := kmsg.NewListOffsetsRequestTopicPartition()
		end.Partition, end.Timestamp = partition, -1
		asked.Partitions = append(asked.Partitions, end)
	}
	request.ReplicaID, request.Topics = -1, append(request.Topics, asked)
	answer, err := request.RequestWith(t.Context(), client)
	if err != nil || len(answer.Topics) != 1 {
		t.Fatalf("ask for the ends of %s: %v, %+v", topic, err, answer)
	}
	for _, p := range answer.Topics[0].Partitions {
		if p.ErrorCode != 0 {
			t.Fatalf("the end of partition %d: code %d", p.Partition, p.ErrorCode)
		}
		n += int(p.Offset)
	}
	return n
}

func remove(t *testing.T, broker, topic string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	request, named := kmsg.NewPtrDeleteTopicsRequest(), kmsg.NewDeleteTopicsRequestTopic()
	named.Topic = &topic
	request.TopicNames, request.Topics = []string{topic}, append(request.Topics, named)
	answer, err := request.RequestWith(t.Context(), client)
	if err != nil || len(answer.Topics) != 1 || answer.Topics[0].ErrorCode != 0 {
		t.Fatalf("remove a topic: %v, %+v", err, answer)
	}
	// The answer is of the controller. The leader takes messages until it has heard of it.
	ask, of := kmsg.NewPtrMetadataRequest(), kmsg.NewMetadataRequestTopic()
	of.Topic = &topic
	ask.Topics = append(ask.Topics, of)
	for deadline := time.Now().Add(time.Minute); ; <-time.After(50 * time.Millisecond) {
		found, err := ask.RequestWith(t.Context(), client)
		if err == nil && len(found.Topics) == 1 && errors.Is(kerr.ErrorForCode(found.Topics[0].ErrorCode), kerr.UnknownTopicOrPartition) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the topic is still there: %v, %+v", err, found)
		}
	}
}
