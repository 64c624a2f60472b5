package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// followerLog is what a follower was given.
type followerLog struct {
	mu      sync.Mutex
	values  []string
	last    Record // the last one
	outages []error
	late    []bool
}

func (s *followerLog) handle(r *Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values, s.last = append(s.values, string(r.Value)), *r
}

func (s *followerLog) outage(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outages = append(s.outages, err)
}

func (s *followerLog) isLate(late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late = append(s.late, late)
}

func (s *followerLog) await(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	eventually(t, "records arrive", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		got := slices.Sorted(slices.Values(s.values))
		if !slices.Equal(got, want) {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
}

// awaitOutage returns the n-th thing that was said about outages.
func (s *followerLog) awaitOutage(t *testing.T, n int) (reported error) {
	t.Helper()
	eventually(t, "an outage begins or ends", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.outages) != n {
			return fmt.Errorf("outages %v", s.outages)
		}
		reported = s.outages[n-1]
		return nil
	})
	return reported
}

// write puts one record into each of the partitions.
func write(t *testing.T, cfg Config, at time.Time, values ...string) {
	t.Helper()
	client := newClient(cfg)
	defer closeClient(client)
	for id, value := range values {
		eventually(t, "write a record", func() error {
			answer, err := client.Produce(testContext(t), &kafka.ProduceRequest{
				Topic: cfg.Topic, Partition: id, RequiredAcks: kafka.RequireAll,
				Records: kafka.NewRecordReader(kafka.Record{
					Time: at, Value: kafka.NewBytes([]byte(value)),
					Headers: []kafka.Header{{Key: "account", Value: []byte("a1")}, {Key: "script", Value: []byte("shop")}, {Key: "client_ip", Value: nil}},
				}),
			})
			if err == nil {
				err = answer.Error
			}
			return err
		})
	}
}

func follow(t *testing.T, cfg Config, since time.Time) (*followerLog, *running) {
	s := &followerLog{}
	return s, run(t, func(ctx context.Context) error {
		return Follow(ctx, FollowConfig{Config: cfg, Since: since, Handle: s.handle, Outage: s.outage, Late: s.isLate, Logger: testLogger(t)})
	})
}

func TestFollowersGetWhatCameSince(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.topic(3)
		since := time.Now()
		write(t, cfg, since.Add(-time.Minute), "old 0", "old 1")
		write(t, cfg, since, "new 0")
		one, first := follow(t, cfg, since)
		two, _ := follow(t, cfg, since.Add(-time.Hour))
		one.await(t, "new 0")
		two.await(t, "old 0", "old 1", "new 0")
		write(t, cfg, since.Add(time.Second), "a", "b", "c")
		one.await(t, "new 0", "a", "b", "c")
		two.await(t, "old 0", "old 1", "new 0", "a", "b", "c")
		if r := &one.last; r.Account != "a1" || r.Header("script") != "shop" || len(r.Headers) != 2 {
			t.Errorf("account %s, headers %v", r.Account, r.Headers)
		}
		first.stop(t)
		write(t, cfg, since.Add(2*time.Second), "d")
		two.await(t, "old 0", "old 1", "new 0", "a", "b", "c", "d")
		one.await(t, "new 0", "a", "b", "c")
	})
}

func TestFollowerWaitsForItsTopic(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.config(unique("late"))
		s, _ := follow(t, cfg, time.Now())
		if err := s.awaitOutage(t, 1); !errors.Is(err, kafka.UnknownTopicOrPartition) {
			t.Errorf("the outage is %v", err)
		}
		if err := EnsureTopic(testContext(t), cfg, 1, 1, 0); err != nil {
			t.Fatal(err)
		}
		write(t, cfg, time.Now(), "first")
		s.await(t, "first")
		if err := s.awaitOutage(t, 2); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestFollowerOutlivesTheBroker(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(2)
	s, _ := follow(t, cfg, time.Now())
	write(t, cfg, time.Now(), "before")
	s.await(t, "before")
	b.stop()
	if err := s.awaitOutage(t, 1); err == nil {
		t.Error("the outage has no reason")
	}
	b.start()
	write(t, cfg, time.Now(), "after 0", "after 1")
	s.await(t, "before", "after 0", "after 1")
	if err := s.awaitOutage(t, 2); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestFollowerSkipsWhatIsGone: retention is minutes long, and an outage may be longer.
func TestFollowerSkipsWhatIsGone(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(1)
	s, _ := follow(t, cfg, time.Now())
	write(t, cfg, time.Now(), "one")
	s.await(t, "one")
	goOn := b.refuseFetches()
	if err := s.awaitOutage(t, 1); err == nil {
		t.Error("the outage has no reason")
	}
	write(t, cfg, time.Now(), "two")
	write(t, cfg, time.Now(), "three")
	if err := b.cluster.DeleteRecords(cfg.Topic, 0, 2); err != nil {
		t.Fatal(err)
	}
	goOn()
	s.await(t, "one", "three")
}

// refuseFetches makes the broker answer none until goOn is called.
func (b *broker) refuseFetches() (goOn func()) {
	var failing atomic.Bool
	failing.Store(true)
	const fetchKey = 1
	b.control(fetchKey, func(c *kfake.Cluster, _ kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return nil, errors.New("no fetches now"), failing.Load()
	})
	return func() { failing.Store(false) }
}

// The story: kafka-go could not decompress a batch that a producer had made wrong. Nobody
// who watched the partition saw another event until the topic's retention took it.
func TestFollowerPassesWhatCannotBeDecoded(t *testing.T) {
	b := startOwnBroker(t)
	for _, codec := range codecs {
		cfg := b.topic(1)
		since := time.Now()
		s, _ := follow(t, cfg, since)
		write(t, cfg, since, "before")
		produceBroken(t, cfg, codec, 2, since)
		write(t, cfg, since, "behind")
		s.await(t, "before", "behind")
		if len(s.outages) > 0 {
			t.Errorf("%s: an outage was told: %v", codec, s.outages)
		}
	}
}

// The story: a partition was made anew, shorter than the follower's position, which then
// showed all that there was, hours of it.
func TestFollowerOfAPartitionThatBecameShorter(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(1)
	now := time.Now()
	s, _ := follow(t, cfg, now)
	for _, value := range []string{"1", "2", "3"} {
		write(t, cfg, now, value)
	}
	s.await(t, "1", "2", "3")
	goOn := b.refuseFetches()
	if err := b.cluster.DeleteTopic(cfg.Topic); err != nil {
		t.Fatal(err)
	}
	if err := EnsureTopic(testContext(t), cfg, 1, 1, 0); err != nil {
		t.Fatal(err)
	}
	write(t, cfg, now.Add(-time.Hour), "old")
	write(t, cfg, now.Add(time.Second), "4")
	goOn()
	s.await(t, "1", "2", "3", "4")
}

func TestAFollowerIsLateWhileTheEndIsOutOfReach(t *testing.T) {
	var p pursuit
	begin := time.Now()
	f := func(after time.Duration, next, end int64, want bool) {
		t.Helper()
		if got := p.isLate(begin.Add(after), next, end); got != want {
			t.Errorf("after %s, at %d of %d: late is %v", after, next, end, got)
		}
	}
	f(0, 10, 10, false)
	f(time.Hour, 11, 20, false) // nothing came for an hour: it is not late for that
	f(time.Hour+followLate-1, 19, 30, false)
	f(time.Hour+followLate, 29, 40, true)
	f(time.Hour+2*followLate, 40, 40, false)
	f(2*time.Hour, 41, 50, false)
}

// What was said of one partition stands until all are read to their ends.
func TestLatenessIsToldOnce(t *testing.T) {
	s := &followerLog{}
	f := &follower{cfg: FollowConfig{Late: s.isLate}, late: some{}}
	f.tellLate(0, false)
	f.tellLate(0, true)
	f.tellLate(1, true)
	f.tellLate(0, false)
	f.tellLate(1, true)
	f.tellLate(1, false)
	if want := []bool{true, false}; !slices.Equal(s.late, want) {
		t.Errorf("told %v, want %v", s.late, want)
	}
}

func TestFollowRefusesWhatCannotWork(t *testing.T) {
	if err := Follow(t.Context(), FollowConfig{Config: Config{Topic: "x"}}); err == nil {
		t.Error("without brokers it returned nil")
	}
	if err := Follow(t.Context(), FollowConfig{Config: Config{Brokers: []string{"127.0.0.1:1"}, Topic: "x"}}); err == nil {
		t.Error("without functions it returned nil")
	}
}
