package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

// produce writes values to one partition and returns when they are stored.
func produce(t testing.TB, cfg Config, partition int, at time.Time, values ...string) {
	t.Helper()
	events := make([]event, len(values))
	for i, v := range values {
		events[i] = event{timeMS: at.UnixMilli(), account: "acme", value: []byte(v)}
	}
	b := encode(events, "1")
	client := newClient(cfg)
	defer closeClient(client)
	eventually(t, "produce", func() error {
		_, err := produceBatch(testContext(t), client, cfg.Topic, partition, b)
		return err
	})
}

func testGroup(t testing.TB, cfg Config, id string) GroupConfig {
	return GroupConfig{Config: cfg, GroupID: id, SessionTimeout: 6 * time.Second, Logger: testLogger(t)}
}

// inPartition runs f as the handler of partition 0, once, and returns when f has.
func inPartition(t testing.TB, cfg GroupConfig, f func(ctx context.Context, p Partition)) {
	t.Helper()
	done := make(chan struct{})
	var once sync.Once
	group := run(t, func(ctx context.Context) error {
		return NewGroup(cfg).Run(ctx, func(ctx context.Context, p Partition) error {
			once.Do(func() {
				defer close(done)
				f(ctx, p)
			})
			<-ctx.Done()
			return nil
		})
	})
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the handler was not called, or did not return, within a minute")
	}
	group.stop(t)
}

func TestPartitionReturnsRecordsInOrderWithHeaders(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.topic(1)
		at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
		var want []string
		for b := range 20 {
			var values []string
			for i := range 100 {
				values = append(values, fmt.Sprintf("%d/%d", b, i))
			}
			produce(t, cfg, 0, at, values...)
			want = append(want, values...)
		}
		inPartition(t, testGroup(t, cfg, unique("g")), func(ctx context.Context, p Partition) {
			if _, _, ok := p.Committed(); ok {
				t.Error("Committed reports a commit in a new group")
			}
			var got []Record
			for len(got) < len(want) {
				records, err := fetchRecords(ctx, p)
				if err != nil {
					t.Errorf("Fetch: %v", err)
					return
				}
				got = append(got, records...)
			}
			for i, r := range got {
				if string(r.Value) != want[i] || r.Offset != int64(i) || r.Account != "acme" || r.Schema != "1" || !r.Time.Equal(at) {
					t.Errorf("record %d is %+v with value %q, want value %q", i, r, r.Value, want[i])
					return
				}
			}
		})
	})
}

func TestPartitionFindsOffsets(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.topic(1)
		t0 := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
		produce(t, cfg, 0, t0, "a", "b")
		produce(t, cfg, 0, t0.Add(time.Second), "c")
		inPartition(t, testGroup(t, cfg, unique("g")), func(ctx context.Context, p Partition) {
			first, next, err := p.Bounds(ctx)
			if err != nil || first != 0 || next != 3 {
				t.Errorf("Bounds: %d, %d, %v, want 0, 3", first, next, err)
			}
			for _, c := range []struct {
				at   time.Time
				want int64
			}{
				{time.Time{}, 0},
				{t0, 0},
				{t0.Add(time.Microsecond), 2},
				{t0.Add(time.Second), 2},
				{t0.Add(time.Hour), 3},
			} {
				if got, err := p.OffsetAt(ctx, c.at); err != nil || got != c.want {
					t.Errorf("OffsetAt(%v): %d, %v, want %d", c.at, got, err, c.want)
				}
			}
			p.SeekTo(1)
			if records, err := fetchRecords(ctx, p); err != nil || records[0].Offset != 1 || string(records[0].Value) != "b" {
				t.Errorf("Fetch after SeekTo(1): %v, %v", records, err)
			}
		})
	})
}

func TestCommitKeepsMetadata(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.topic(1)
		produce(t, cfg, 0, time.Now(), "a", "b", "c")
		group := testGroup(t, cfg, unique("g"))
		plan := `{"begin":2,"end":3}`
		inPartition(t, group, func(ctx context.Context, p Partition) {
			if err := p.Commit(ctx, 2, plan); err != nil {
				t.Errorf("Commit: %v", err)
			}
			if offset, metadata, ok := p.Committed(); !ok || offset != 2 || metadata != plan {
				t.Errorf("Committed after Commit: %d, %q, %v", offset, metadata, ok)
			}
		})
		inPartition(t, group, func(ctx context.Context, p Partition) {
			if offset, metadata, ok := p.Committed(); !ok || offset != 2 || metadata != plan {
				t.Errorf("Committed in the next member: %d, %q, %v", offset, metadata, ok)
			}
			if records, err := fetchRecords(ctx, p); err != nil || string(records[0].Value) != "c" {
				t.Errorf("Fetch in the next member: %v, %v, want c", records, err)
			}
		})
	})
}

// A member that lost its partition without noticing, because it was paused or cut
// off, must not move the group.
func TestZombieCannotCommit(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.topic(1)
		produce(t, cfg, 0, time.Now(), "a", "b")
		group := testGroup(t, cfg, unique("g"))
		var zombie *partition
		inPartition(t, group, func(ctx context.Context, p Partition) {
			if err := p.Commit(ctx, 1, "first"); err != nil {
				t.Errorf("Commit: %v", err)
			}
			zombie = p.(*partition)
		})
		zombie.client = newClient(cfg)
		defer closeClient(zombie.client)
		if err := zombie.Commit(testContext(t), 2, "zombie"); !errors.Is(err, ErrFenced) {
			t.Errorf("commit of a member that left: %v, want ErrFenced", err)
		}
		inPartition(t, group, func(ctx context.Context, p Partition) {
			if err := zombie.Commit(ctx, 2, "zombie"); !errors.Is(err, ErrFenced) {
				t.Errorf("commit of a zombie while another member holds the partition: %v, want ErrFenced", err)
			}
			if offset, metadata, _ := p.Committed(); offset != 1 || metadata != "first" {
				t.Errorf("Committed: %d, %q, want 1, first", offset, metadata)
			}
		})
	})
}

func TestFetchTellsThatRetentionPassed(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(1)
	produce(t, cfg, 0, time.Now(), "a", "b", "c", "d")
	if err := b.cluster.DeleteRecords(cfg.Topic, 0, 3); err != nil {
		t.Fatal(err)
	}
	inPartition(t, testGroup(t, cfg, unique("g")), func(ctx context.Context, p Partition) {
		p.SeekTo(1)
		_, err := fetchRecords(ctx, p)
		var out *OutOfRangeError
		if !errors.As(err, &out) || *out != (OutOfRangeError{Position: 1, First: 3, Next: 4}) {
			t.Errorf("Fetch at 1 after retention removed 0 to 2: %v", err)
			return
		}
		p.SeekTo(out.First)
		if records, err := fetchRecords(ctx, p); err != nil || string(records[0].Value) != "d" {
			t.Errorf("Fetch at the first offset: %v, %v, want d", records, err)
		}
	})
}

// seen collects what committing handlers processed.
type seen struct {
	mu     sync.Mutex
	values map[string]int
}

func (s *seen) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.values)
}

// records counts the same value as often as it was read.
func (s *seen) records() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, times := range s.values {
		n += int64(times)
	}
	return n
}

// committing processes a fetch and commits it. What it could not commit does not
// count, as with a store that takes rows and position together.
func (s *seen) committing(ctx context.Context, p Partition) error {
	for ctx.Err() == nil {
		records, err := fetchRecords(ctx, p)
		if err != nil {
			return err
		}
		if err := p.Commit(context.WithoutCancel(ctx), records[len(records)-1].Offset+1, ""); err != nil {
			return err
		}
		s.mu.Lock()
		for _, r := range records {
			s.values[string(r.Value)]++
		}
		s.mu.Unlock()
	}
	return nil
}

func TestRebalanceHandsPartitionsOver(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.topic(4)
		group := testGroup(t, cfg, unique("g"))
		s := &seen{values: map[string]int{}}
		total := 0
		write := func(n int) {
			for range n {
				produce(t, cfg, total%4, time.Now(), fmt.Sprint(total))
				total++
			}
		}
		allSeen := func() error {
			if s.count() != total {
				return fmt.Errorf("saw %d of %d", s.count(), total)
			}
			return nil
		}
		member := func() *running {
			return run(t, func(ctx context.Context) error { return NewGroup(group).Run(ctx, s.committing) })
		}
		first := member()
		write(40)
		eventually(t, "one member", allSeen)
		second := member()
		write(40)
		eventually(t, "two members", allSeen)
		first.stop(t)
		write(40)
		eventually(t, "the other member", allSeen)
		second.stop(t)
		for v, n := range s.values {
			if n != 1 {
				t.Errorf("record %s was committed %d times", v, n)
			}
		}
	})
}

func TestHandlerStartsAgainAfterAnErrorWithoutRebalance(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.topic(1)
		produce(t, cfg, 0, time.Now(), "a", "b")
		var calls []int64
		generations := map[int]bool{}
		done := make(chan struct{})
		group := run(t, func(ctx context.Context) error {
			return NewGroup(testGroup(t, cfg, unique("g"))).Run(ctx, func(ctx context.Context, p Partition) error {
				offset, _, _ := p.Committed()
				calls = append(calls, offset)
				generations[p.(*partition).tenure.generation] = true
				if len(calls) == 1 {
					if err := p.Commit(ctx, 1, ""); err != nil {
						return err
					}
					return errors.New("the store is away")
				}
				records, err := fetchRecords(ctx, p)
				if err != nil || string(records[0].Value) != "b" {
					t.Errorf("Fetch after the restart: %v, %v, want b", records, err)
				}
				close(done)
				<-ctx.Done()
				return nil
			})
		})
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatal("the handler did not start again within a minute")
		}
		group.stop(t)
		if len(calls) != 2 || calls[1] != 1 || len(generations) != 1 {
			t.Errorf("handler saw committed offsets %v in generations %v, want two calls in one generation", calls, generations)
		}
	})
}

func TestGroupSurvivesBrokerRestart(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(2)
	s := &seen{values: map[string]int{}}
	group := run(t, func(ctx context.Context) error {
		return NewGroup(testGroup(t, cfg, "g")).Run(ctx, s.committing)
	})
	total := 0
	for range 3 {
		for range 20 {
			produce(t, cfg, total%2, time.Now(), fmt.Sprint(total))
			total++
		}
		eventually(t, "read everything", func() error {
			if s.count() != total {
				return fmt.Errorf("saw %d of %d", s.count(), total)
			}
			return nil
		})
		b.stop()
		b.start()
	}
	group.stop(t)
}

func TestNewPartitionsAreNoticed(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.topic(1)
		s := &seen{values: map[string]int{}}
		run(t, func(ctx context.Context) error {
			return NewGroup(testGroup(t, cfg, unique("g"))).Run(ctx, s.committing)
		})
		produce(t, cfg, 0, time.Now(), "old")
		client := newClient(cfg)
		defer closeClient(client)
		if _, err := client.CreatePartitions(testContext(t), &kafka.CreatePartitionsRequest{
			Topics: []kafka.TopicPartitionsConfig{{Name: cfg.Topic, Count: 2}},
		}); err != nil {
			t.Fatal(err)
		}
		produce(t, cfg, 1, time.Now(), "new")
		eventually(t, "read both partitions", func() error {
			if s.count() != 2 {
				return fmt.Errorf("saw %d records of 2", s.count())
			}
			return nil
		})
	})
}

func TestRunReturnsWhileNoBrokerAnswers(t *testing.T) {
	cfg := Config{Brokers: []string{"127.0.0.1:1"}, Topic: "t"}
	run(t, func(ctx context.Context) error {
		return NewGroup(testGroup(t, cfg, "g")).Run(ctx, func(context.Context, Partition) error {
			t.Error("handler called without a broker")
			return nil
		})
	}).stop(t)
}
