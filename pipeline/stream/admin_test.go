package stream

import (
	"slices"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

func TestEnsureTopicLeavesAnExistingTopic(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.topic(2)
		produce(t, cfg, 0, time.Now(), "a")
		if err := EnsureTopic(testContext(t), cfg, 3, 1, time.Hour); err != nil {
			t.Fatal(err)
		}
		client := newClient(cfg)
		defer closeClient(client)
		if ids, err := topicPartitions(testContext(t), client, cfg.Topic); err != nil || len(ids) != 2 {
			t.Errorf("partitions after a second EnsureTopic: %v, %v, want 2", ids, err)
		}
	})
}

func TestPing(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(1)
	if err := Ping(testContext(t), cfg); err != nil {
		t.Errorf("Ping: %v", err)
	}
	if err := Ping(testContext(t), Config{Brokers: b.addrs, Topic: "missing"}); err == nil {
		t.Error("Ping says nothing about a missing topic")
	}
	b.stop()
	if err := Ping(testContext(t), cfg); err == nil {
		t.Error("Ping says nothing about a broker that is away")
	}
}

func TestReplicatedTopicConfirmsWhatTwoBrokersHave(t *testing.T) {
	inSync := kafka.ConfigEntry{ConfigName: "min.insync.replicas", ConfigValue: "2"}
	for replication, want := range map[int]bool{1: false, 2: false, 3: true, 5: true} {
		if got := slices.Contains(topicConfig(replication, time.Hour), inSync); got != want {
			t.Errorf("%d replicas, two must be in sync: %v, want %v", replication, got, want)
		}
	}
}
