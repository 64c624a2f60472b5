package stream

import (
	"context"
	"testing"
	"time"
)

func TestEnsureTopicLeavesAnExistingTopic(t *testing.T) {
	cfg := startBroker(t).topic(2)
	produce(t, cfg, 0, time.Now(), "a")
	if err := EnsureTopic(testContext(t), cfg, 3, 1, time.Hour); err != nil {
		t.Fatal(err)
	}
	client := newClient(cfg)
	defer closeClient(client)
	if ids, err := ledPartitions(testContext(t), client, cfg.Topic); err != nil || len(ids) != 2 {
		t.Errorf("partitions after a second EnsureTopic: %v, %v, want 2", ids, err)
	}
}

func TestLagCountsWhatIsNotCommitted(t *testing.T) {
	cfg := startBroker(t).topic(2)
	produce(t, cfg, 0, time.Now(), "a", "b", "c")
	produce(t, cfg, 1, time.Now(), "d")
	group := testGroup(t, cfg, unique("g"))
	lag, err := Lag(testContext(t), cfg, group.GroupID)
	if err != nil || len(lag) != 0 {
		t.Errorf("lag of a group that never committed: %v, %v, want none", lag, err)
	}
	commitFirst(t, group)
	lag, err = Lag(testContext(t), cfg, group.GroupID)
	if err != nil || len(lag) != 1 || lag[0] != 2 {
		t.Errorf("lag after committing 1 of 3 on partition 0: %v, %v, want 0:2", lag, err)
	}
}

// commitFirst commits offset 1 of partition 0 and leaves.
func commitFirst(t *testing.T, group GroupConfig) {
	t.Helper()
	done := make(chan struct{})
	member := run(t, func(ctx context.Context) error {
		return NewGroup(group).Run(ctx, func(ctx context.Context, p Partition) error {
			if p.ID() == 0 {
				if err := p.Commit(ctx, 1, ""); err != nil {
					return err
				}
				close(done)
			}
			<-ctx.Done()
			return nil
		})
	})
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("no commit within 30 s")
	}
	member.stop(t)
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
