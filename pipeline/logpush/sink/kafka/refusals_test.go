package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidegate/pipeline/logpush"
)

// broker refuses messages of its topic, in, which has one partition.
type broker struct {
	address string
	asked   atomic.Int64
}

// refusing starts one. Of each batch refuse has the bytes; it returns an error of kerr, another
// one to break the connection off, and nil to take the batch.
func refusing(t *testing.T, refuse func(records []byte) error) *broker {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "in"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	b := &broker{address: c.ListenAddrs()[0]}
	c.ControlKey(int16(kmsg.Produce), func(q kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		b.asked.Add(1)
		request := q.(*kmsg.ProduceRequest)
		sent := request.Topics[0].Partitions[0]
		err := refuse(sent.Records)
		if err == nil {
			return nil, nil, false
		}
		known, ok := errors.AsType[*kerr.Error](err)
		if !ok {
			return nil, err, true
		}
		return refused(request, known), nil, true
	})
	return b
}

// refused is the answer that all partitions refuse what a request has for them.
func refused(request *kmsg.ProduceRequest, why *kerr.Error) *kmsg.ProduceResponse {
	answer := request.ResponseKind().(*kmsg.ProduceResponse)
	for _, sent := range request.Topics {
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic, topic.TopicID = sent.Topic, sent.TopicID
		for i := range sent.Partitions {
			partition := kmsg.NewProduceResponseTopicPartition()
			partition.Partition, partition.ErrorCode = sent.Partitions[i].Partition, why.Code
			topic.Partitions = append(topic.Partitions, partition)
		}
		answer.Topics = append(answer.Topics, topic)
	}
	return answer
}

// What a broker says of messages: of one, whatever the others are, or of all.
func TestRefusals(t *testing.T) {
	const bad = 2
	texts := []string{"zero", "one", "poison", "three", "four"}
	ofOne := func(why error) func([]byte) error {
		return func(records []byte) error {
			if bytes.Contains(records, []byte("poison")) {
				return why
			}
			return nil
		}
	}
	ofAll := func(why error) func([]byte) error { return func([]byte) error { return why } }
	all := []int{0, 1, 2, 3, 4}
	for _, c := range []struct {
		name    string
		refuse  func([]byte) error
		records []int // that are refused for good; nil where all may pass
		text    string
	}{
		{"one is no record of the topic's", ofOne(kerr.InvalidRecord), []int{bad}, "INVALID_RECORD"},
		{"one is too old", ofOne(kerr.InvalidTimestamp), []int{bad}, "INVALID_TIMESTAMP"},
		{"one is too large", ofOne(kerr.MessageTooLarge), []int{bad}, "MESSAGE_TOO_LARGE"},
		{"all are no records of the topic's", ofAll(kerr.InvalidRecord), all, "INVALID_RECORD"},
		{"all are too large", ofAll(kerr.MessageTooLarge), all, "MESSAGE_TOO_LARGE"},

		{"nobody may write", ofAll(kerr.TopicAuthorizationFailed), nil, "TOPIC_AUTHORIZATION_FAILED"},
		{"the compression is not known", ofAll(kerr.UnsupportedCompressionType), nil, "UNSUPPORTED_COMPRESSION_TYPE"},
		{"an error without a name", ofAll(kerr.UnknownServerError), nil, "UNKNOWN_SERVER_ERROR"},
		{"too few replicas", ofAll(kerr.NotEnoughReplicas), nil, "timeout"},
		{"too few replicas, after it was written", ofAll(kerr.NotEnoughReplicasAfterAppend), nil, "timeout"},
		{"no leader", ofAll(kerr.NotLeaderForPartition), nil, "timeout"},
		{"replicas took too long", ofAll(kerr.RequestTimedOut), nil, "timeout"},
		{"the disk fails", ofAll(kerr.KafkaStorageError), nil, "timeout"},
		{"came damaged", ofAll(kerr.CorruptMessage), nil, "CORRUPT_MESSAGE"},
		{"breaks off", ofAll(io.ErrUnexpectedEOF), nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := refusing(t, c.refuse)
			s := open(t, "kafka://"+b.address+"/in?transport=plaintext&compression=none", loopback).(*sink)
			if c.records == nil {
				s.try = 5 * time.Second // what passes, the client tries again by itself
			}
			err := s.Put(t.Context(), batch(texts...))
			e, ok := errors.AsType[*logpush.UploadError](err)
			if !ok || e.Permanent != (c.records != nil) || !slices.Equal(e.Records, c.records) || e.Text == "" || !strings.Contains(e.Text, c.text) {
				t.Errorf("put returned %+v, want records %v, %q", err, c.records, c.text)
			}
			var want, got []string
			for i, text := range texts {
				if c.records != nil && !slices.Contains(c.records, i) {
					want = append(want, text)
				}
			}
			for _, m := range consume(t, b.address, "in", written(t, b.address, "in", 1)) {
				got = append(got, string(m.Value))
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("the topic has %q, want %q", got, want)
			}
		})
	}
}

// What passes while the client tries again is nobody's trouble.
func TestTroubleThatPasses(t *testing.T) {
	for _, why := range []error{kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.KafkaStorageError, io.ErrUnexpectedEOF} {
		t.Run(why.Error(), func(t *testing.T) {
			t.Parallel() // the client waits for seconds
			var once atomic.Bool
			b := refusing(t, func([]byte) error {
				if once.CompareAndSwap(false, true) {
					return why
				}
				return nil
			})
			if err := open(t, "kafka://"+b.address+"/in?transport=plaintext", loopback).Put(t.Context(), batch("one", "two")); err != nil {
				t.Errorf("put returned %v", err)
			}
			if n := written(t, b.address, "in", 1); n != 2 {
				t.Errorf("the topic has %d messages, want 2", n)
			}
		})
	}
}
