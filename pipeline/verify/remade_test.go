package verify

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

// remake deletes the topic and makes it anew, as an operator would.
func (s *system) remake() {
	s.t.Helper()
	s.eventually("the topic is gone", func() error {
		answer, err := s.client.DeleteTopics(s.t.Context(), &kafka.DeleteTopicsRequest{Topics: []string{topic}})
		if err == nil && answer.Errors[topic] != nil && !errors.Is(answer.Errors[topic], kafka.UnknownTopicOrPartition) {
			err = answer.Errors[topic]
		}
		return err
	})
	s.eventually("there is another topic", func() error {
		answer, err := s.client.CreateTopics(s.t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{
			Topic: topic, NumPartitions: s.partitions, ReplicationFactor: 1}}})
		if err == nil {
			err = answer.Errors[topic]
		}
		return err
	})
	s.eventually("its partitions are known", func() error {
		_, next, err := s.reader.Bounds(s.t.Context(), 0)
		if err == nil && next != 0 {
			err = fmt.Errorf("it ends at %d", next)
		}
		return err
	})
}

// A topic that was made anew uses its offsets again: rows of both are no repeats.
func TestARemadeTopicIsNoFault(t *testing.T) {
	s := newSystem(t, 1, nil)
	s.produceGood(40)
	s.stored()
	s.remake()
	before := time.Now()
	s.produceGood(30)
	s.stored()
	r := s.verify(nil)
	want(t, r, "unknown", "partition 0 unknown: missing 0, repeated 0, stray 0, expired 0, gaps 0, more 0")
	wantNote(t, r.Partitions[0].Notes, "at offset 0 Kafka has")

	since := func(c *Config) { c.InsertedSince = before }
	want(t, s.verify(since), "exact")
	s.must("ALTER TABLE trace_events DELETE" + where + "= 7")
	r = s.verify(since)
	r.Rollups = nil
	want(t, r, "different", "partition 0 different: missing 1, repeated 0, stray 0, expired 0, gaps 0, more 0", "  missing 7-7 (1) of 0 rows")
}

// The rows of the old topic may lie behind the end of the new one alone, because
// retention took those before.
func TestRowsOfAnOldTopicBehindTheEnd(t *testing.T) {
	s := newSystem(t, 1, nil)
	s.produceGood(40)
	s.stored()
	s.must("ALTER TABLE trace_events DELETE" + where + "< 20")
	s.must("TRUNCATE TABLE version_rates_1s")
	s.must("TRUNCATE TABLE version_rates_1m")
	s.must("TRUNCATE TABLE version_rates_1h")
	s.must("TRUNCATE TABLE assigned_rates_1s")
	s.remake()
	s.produceGood(10)
	s.stored()
	r := s.verify(nil)
	r.Rollups = nil
	want(t, r, "unknown", "partition 0 unknown: missing 0, repeated 0, stray 0, expired 0, gaps 0, more 0")
	wantNote(t, r.Partitions[0].Notes, "20 rows at the offsets 20 to 39, 20 of them inserted before")
}

// A note of a deleted offset has the deletion's time, which says nothing of when its
// event was stored.
func TestNotesOfDeletionsBehindTheEndOfARemadeTopic(t *testing.T) {
	s := newSystem(t, 1, nil)
	s.produceGood(10)
	s.stored()
	s.must("INSERT INTO trace_events_quarantine (kafka_partition, kafka_offset, reason) VALUES (0, 30, 'deleted'), (0, 31, 'deleted')")
	r := s.verify(nil)
	want(t, r, "unknown", "partition 0 unknown: missing 0, repeated 0, stray 0, expired 0, gaps 0, more 0")
	wantNote(t, r.Partitions[0].Notes, "2 rows at the offsets 30 to 31, 2 of them inserted before the partition's last record was written or notes of deleted records")
}

// Offsets without a record are no gaps: those of a transaction's marker.
func TestMarkersOfTransactionsAreNotMissed(t *testing.T) {
	s := newSystem(t, 1, nil)
	producer, err := kgo.NewClient(kgo.SeedBrokers(s.broker), kgo.TransactionalID("t"), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	for range 3 { // of two records and a marker each
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		for range 2 {
			r := &kgo.Record{Value: s.event(now), Timestamp: now, Headers: []kgo.RecordHeader{{Key: "account", Value: []byte(account)}, {Key: "schema", Value: []byte("1")}}}
			if err := producer.ProduceSync(context.Background(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := producer.EndTransaction(context.Background(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
	}
	s.produceGood(4)
	s.stored()
	want(t, s.verify(nil), "exact", "partition 0 exact: missing 0, repeated 0, stray 0, expired 0, gaps 3, more 0")
	s.must("INSERT INTO trace_events_quarantine (kafka_partition, kafka_offset) VALUES (0, 5)") // where a marker is
	want(t, s.verify(nil), "different", "partition 0 different: missing 0, repeated 0, stray 1, expired 0, gaps 2, more 0", "  stray 5-5 (1) of 1 rows")
}
