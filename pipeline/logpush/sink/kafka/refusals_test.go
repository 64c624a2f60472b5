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
	cluster *kfake.Cluster
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
	b := &broker{cluster: c, address: c.ListenAddrs()[0]}
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
		{"too few replicas", ofAll(kerr.NotEnoughReplicas), nil, "NOT_ENOUGH_REPLICAS"},
		{"too few replicas, after it was written", ofAll(kerr.NotEnoughReplicasAfterAppend), nil, "too few replicas"},
		{"no leader", ofAll(kerr.NotLeaderForPartition), nil, "NOT_LEADER_FOR_PARTITION"},
		{"replicas took too long", ofAll(kerr.RequestTimedOut), nil, "too few replicas are in sync, they take too long"},
		{"the disk fails", ofAll(kerr.KafkaStorageError), nil, "KAFKA_STORAGE_ERROR"},
		{"came damaged", ofAll(kerr.CorruptMessage), nil, "CORRUPT_MESSAGE"},
		{"breaks off", ofAll(io.ErrUnexpectedEOF), nil, "connections break"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := refusing(t, c.refuse)
			s := open(t, "kafka://"+b.address+"/in?transport=plaintext&compression=none", loopback).(*sink)
			s.try = 10 * time.Minute // the client tries again by itself what passes, and gives up before
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

// A topic that is compacted takes no message without a key, which is no fault of the messages: all
// of them became dead letters.
func TestACompactedTopicAsksForKeys(t *testing.T) {
	ofOne := func(records []byte) bool { return bytes.Contains(records, []byte("poison")) }
	ofAll := func([]byte) bool { return true }
	for _, c := range []struct {
		name    string
		policy  string
		hidden  bool // its settings are
		key     string
		refuse  func([]byte) bool
		records []int // that are refused for what they are
	}{
		{"compacted", "compact", false, "none", ofAll, nil},
		{"compacted and cut off", "compact,delete", false, "none", ofAll, nil},
		{"with keys", "compact", false, "script", ofAll, []int{0, 1, 2}},
		{"not compacted", "delete", false, "none", ofAll, []int{0, 1, 2}},
		{"nobody may know", "compact", true, "none", ofAll, nil},
		{"nobody may know, and others are taken", "delete", true, "none", ofOne, []int{1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := refusing(t, func(records []byte) error {
				if c.refuse(records) {
					return kerr.InvalidRecord
				}
				return nil
			})
			if err := b.cluster.CreateTopic("kept", 1, map[string]string{"cleanup.policy": c.policy}); err != nil {
				t.Fatal(err)
			}
			if c.hidden {
				b.cluster.ControlKey(int16(kmsg.DescribeConfigs), func(q kmsg.Request) (kmsg.Response, error, bool) {
					b.cluster.KeepControl()
					answer, resource := q.ResponseKind().(*kmsg.DescribeConfigsResponse), kmsg.NewDescribeConfigsResponseResource()
					resource.ErrorCode = kerr.TopicAuthorizationFailed.Code
					answer.Resources = append(answer.Resources, resource)
					return answer, nil, true
				})
			}
			err := open(t, "kafka://"+b.address+"/kept?transport=plaintext&compression=none&key="+c.key, loopback).Put(t.Context(), batch("one", "poison", "three"))
			e, ok := errors.AsType[*logpush.UploadError](err)
			if !ok || !e.Permanent || e.Status != 0 || !slices.Equal(e.Records, c.records) || (c.records == nil) != strings.Contains(e.Text, "key=script") {
				t.Errorf("put returned %+v, want the records %v", err, c.records)
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
