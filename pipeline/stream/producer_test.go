package stream

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
)

func testProducer(t testing.TB, cfg Config, dir string) ProducerConfig {
	return ProducerConfig{Config: cfg, Schema: "1", SpoolDir: dir, Linger: 5 * time.Millisecond, Logger: testLogger(t)}
}

func newProducer(t testing.TB, cfg ProducerConfig) *Producer {
	t.Helper()
	p, err := NewProducer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// consume starts a group that collects what is in the topic.
func consume(t testing.TB, cfg Config) *seen {
	s := &seen{values: map[string]int{}}
	run(t, func(ctx context.Context) error {
		return NewGroup(testGroup(t, cfg, unique("g"))).Run(ctx, s.committing)
	})
	return s
}

// requireEach waits for n distinct values and then requires that none came more than
// once, and that the producer does not believe so.
func (s *seen) requireEach(t *testing.T, n int, p *Producer) {
	t.Helper()
	eventually(t, "read every event", func() error {
		if got := s.count(); got != n {
			return fmt.Errorf("read %d of %d; producer: %+v", got, n, p.Stats())
		}
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	repeats := 0
	for _, count := range s.values {
		repeats += count - 1
	}
	if possible := p.Stats().EventsRepeatPossible; repeats > 0 || possible > 0 {
		t.Errorf("%d events came twice, %d were counted as possible repeats", repeats, possible)
	}
}

func TestProducedEventsArriveWithTheirHeadersAndInOrderOfTheirBatch(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.topic(1)
		p := newProducer(t, testProducer(t, cfg, t.TempDir()))
		run(t, p.Run)
		const n = 5000
		before := time.Now().Truncate(time.Millisecond)
		for i := range n {
			p.Emit("acme", fmt.Appendf(nil, "%d", i))
		}
		after := time.Now()
		eventually(t, "everything is sent", func() error {
			if s := p.Stats(); s.EventsIn != n || s.EventsOut != n || s.QueueEvents != 0 || s.QueueBytes != 0 || s.SpoolBytes != 0 {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
		inPartition(t, testGroup(t, cfg, unique("g")), func(ctx context.Context, part Partition) {
			var got []int
			for len(got) < n {
				records, err := fetchRecords(ctx, part)
				if err != nil {
					t.Errorf("Fetch: %v", err)
					return
				}
				for _, r := range records {
					var v int
					if _, err := fmt.Sscan(string(r.Value), &v); err != nil {
						t.Errorf("value %q: %v", r.Value, err)
					}
					got = append(got, v)
					if r.Account != "acme" || r.Schema != "1" || r.Time.Before(before) || r.Time.After(after) {
						t.Errorf("record %+v has wrong headers or time", r)
					}
				}
			}
			slices.Sort(got)
			for i, v := range got {
				if v != i {
					t.Errorf("event %d is missing or repeated", i)
					return
				}
			}
		})
	})
}

func TestBatchesGoToOnePartitionAfterAnother(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.topic(3)
		producerConfig := testProducer(t, cfg, t.TempDir())
		producerConfig.BatchEventsMax = 10
		p := newProducer(t, producerConfig)
		for i := range 300 { // before Run, so that each batch is full
			p.Emit("acme", fmt.Appendf(nil, "%d", i))
		}
		run(t, p.Run)
		eventually(t, "everything is sent", func() error {
			if p.Stats().EventsOut != 300 {
				return fmt.Errorf("%+v", p.Stats())
			}
			return nil
		})
		client := newClient(cfg)
		defer closeClient(client)
		for id := range 3 {
			part := &partition{group: NewGroup(testGroup(t, cfg, "g")), client: client, reader: mustReader(t, cfg), id: id}
			if first, next, err := part.Bounds(testContext(t)); err != nil || next-first != 100 {
				t.Errorf("partition %d holds %d to %d (%v), want 100 events", id, first, next, err)
			}
		}
	})
}

func TestNothingIsLostWhileKafkaIsAway(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(4)
	p := newProducer(t, testProducer(t, cfg, t.TempDir()))
	run(t, p.Run)
	s := consume(t, cfg)

	// Several callers emit all the time, while the broker goes and comes back.
	var emitters sync.WaitGroup
	stop := make(chan struct{})
	var mu sync.Mutex
	total := 0
	for range 4 {
		emitters.Go(func() {
			ticker := time.NewTicker(time.Millisecond)
			defer ticker.Stop()
			for {
				select {
				case <-stop:
					return
				case <-ticker.C:
				}
				mu.Lock()
				n := total
				total += 5
				mu.Unlock()
				for i := range 5 {
					p.Emit("acme", fmt.Appendf(nil, "%d", n+i))
				}
			}
		})
	}
	for range 2 {
		out := p.Stats().EventsOut
		eventually(t, "events flow", func() error {
			if p.Stats().EventsOut < out+500 {
				return fmt.Errorf("%+v", p.Stats())
			}
			return nil
		})
		b.stop()
		spooled := p.Stats().EventsSpooled
		eventually(t, "events are spooled", func() error {
			if p.Stats().EventsSpooled < spooled+1000 {
				return fmt.Errorf("%+v", p.Stats())
			}
			return nil
		})
		b.start()
	}
	close(stop)
	emitters.Wait()
	s.requireEach(t, total, p)
	eventually(t, "the spool is empty and the books balance", func() error {
		stats := p.Stats()
		if stats.SpoolBytes != 0 || stats.EventsIn != uint64(total) || stats.EventsOut != stats.EventsIn {
			return fmt.Errorf("%+v", stats)
		}
		return nil
	})
}

func TestSpoolIsSentAfterARestartOfTheProducer(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(2)
	dir := t.TempDir()
	s := consume(t, cfg)
	b.stop()
	const n = 2000
	for half := range 2 { // two lives without Kafka
		p := newProducer(t, testProducer(t, cfg, dir))
		producer := run(t, p.Run)
		for i := range n / 2 {
			p.Emit("acme", fmt.Appendf(nil, "%d", half*n/2+i))
		}
		producer.stop(t)
		if stats := p.Stats(); stats.EventsSpooled != n/2 || stats.EventsOut != 0 || stats.SpoolBytes == 0 {
			t.Fatalf("stats after life %d without Kafka: %+v", half, stats)
		}
	}
	b.start()
	p := newProducer(t, testProducer(t, cfg, dir))
	run(t, p.Run)
	s.requireEach(t, n, p)
	eventually(t, "the spool is empty", func() error {
		if stats := p.Stats(); stats.EventsOut != n || stats.SpoolBytes != 0 {
			return fmt.Errorf("%+v", stats)
		}
		return nil
	})
	if left, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix)); err != nil || len(left) > 0 {
		t.Errorf("segments left: %v, %v", left, err)
	}
}

func TestSpoolBoundDropsTheNewestAndCounts(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(1)
	b.stop()
	producerConfig := testProducer(t, cfg, t.TempDir())
	producerConfig.SpoolBytesMax = 64 << 10
	p := newProducer(t, producerConfig)
	run(t, p.Run)
	p.Emit("acme", []byte("0 ")) // by itself, so that it is not in a batch that is too large for the spool
	n := 1
	eventually(t, "the first event is in the spool", func() error {
		if p.Stats().SpoolBytes == 0 {
			return fmt.Errorf("%+v", p.Stats())
		}
		return nil
	})
	eventually(t, "the spool is full", func() error {
		for range 50 {
			// What does not compress fills the spool soon.
			p.Emit("acme", fmt.Appendf(nil, "%d %s", n, noise(500)))
			n++
		}
		if p.Stats().Dropped["spool_full"] == 0 {
			return fmt.Errorf("%+v", p.Stats())
		}
		return nil
	})
	if size := p.Stats().SpoolBytes; size > producerConfig.SpoolBytesMax {
		t.Errorf("the spool takes %d bytes, above its bound %d", size, producerConfig.SpoolBytesMax)
	}
	b.start()
	s := consume(t, cfg)
	eventually(t, "the rest arrives", func() error {
		stats := p.Stats()
		if stats.SpoolBytes != 0 || stats.EventsOut+stats.Dropped["spool_full"] != uint64(n) || uint64(s.count()) != stats.EventsOut {
			return fmt.Errorf("read %d; %+v", s.count(), stats)
		}
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := false
	for v := range s.values {
		oldest = oldest || strings.HasPrefix(v, "0 ")
	}
	if !oldest {
		t.Error("the oldest event was dropped")
	}
}

func TestQueueBoundDropsAndCounts(t *testing.T) {
	producerConfig := testProducer(t, Config{Brokers: []string{"127.0.0.1:1"}, Topic: "t"}, t.TempDir())
	producerConfig.QueueEventsMax = 10
	p := newProducer(t, producerConfig)
	for range 15 {
		p.Emit("acme", []byte("x"))
	}
	if s := p.Stats(); s.EventsIn != 15 || s.QueueEvents != 10 || s.Dropped["queue_full"] != 5 {
		t.Errorf("stats with 15 events for a queue of 10: %+v", s)
	}
	p.Emit("acme", make([]byte, eventBytesMax))
	run(t, p.Run).stop(t)
	p.Emit("acme", []byte("x"))
	if s := p.Stats(); s.EventsSpooled != 10 || s.QueueEvents != 0 || s.Dropped["stopped"] != 1 || s.Dropped["too_large"] != 1 {
		t.Errorf("stats after Run: %+v", s)
	}
}

// A batch that Kafka refuses for its size must not take its good events with it,
// neither on the way nor from the spool.
// Headers of one record are that record's alone, also when a batch is cut in two.
func TestMoreHeadersArriveWithTheirRecord(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.topic(1)
		producerConfig := testProducer(t, cfg, "")
		producerConfig.NoSpool = true
		p := newProducer(t, producerConfig)
		want := []event{
			{account: "a", headers: []Header{{"script", "shop"}, {"client_ip", "192.0.2.1"}}, value: []byte("1")},
			{account: "b", value: []byte("2")},
			{account: "c", headers: []Header{{"script", ""}}, value: []byte("3")},
		}
		whole := encode(want, "1")
		halves, err := split(whole, kafka.MessageSizeTooLarge)
		if err != nil || len(halves) != 2 {
			t.Fatalf("%d halves, %v", len(halves), err)
		}
		for i, events := range [][]event{want[:1], want[1:]} {
			got, _, err := decode(halves[i])
			if err != nil {
				t.Fatal(err)
			}
			for j := range got {
				if !slices.Equal(got[j].headers, events[j].headers) {
					t.Errorf("half %d: headers %v, want %v", i, got[j].headers, events[j].headers)
				}
			}
		}

		run(t, p.Run)
		for _, e := range want {
			p.EmitHeaders(e.account, e.headers, e.value)
		}
		inPartition(t, testGroup(t, cfg, unique("g")), func(ctx context.Context, part Partition) {
			for n := 0; n < len(want); {
				records, err := fetchRecords(ctx, part)
				if err != nil {
					t.Errorf("Fetch: %v", err)
					return
				}
				for _, r := range records {
					if r.Account != want[n].account || !slices.Equal(r.Headers, want[n].headers) {
						t.Errorf("record %d: %+v, want headers %v", n, r, want[n].headers)
					}
					if n == 0 && (r.Header("client_ip") != "192.0.2.1" || r.Header("other") != "") {
						t.Errorf("client_ip is %q", r.Header("client_ip"))
					}
					n++
				}
			}
		})
	})
}

// Without a spool, what Kafka does not take is dropped and counted, and the next
// events go out when Kafka is back.
func TestNoSpoolDropsWhileKafkaIsAway(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(1)
	b.stop()
	producerConfig := testProducer(t, cfg, "")
	producerConfig.NoSpool = true
	p := newProducer(t, producerConfig)
	run(t, p.Run)
	p.Emit("acme", []byte("lost"))
	eventually(t, "the event is dropped", func() error {
		if s := p.Stats(); s.Dropped["away"] != 1 || s.QueueEvents != 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	b.start()
	s := consume(t, cfg)
	n := 0
	eventually(t, "a later event arrives", func() error {
		p.Emit("acme", fmt.Appendf(nil, "%d", n))
		n++
		if s.count() == 0 {
			return fmt.Errorf("%+v", p.Stats())
		}
		return nil
	})
}

func TestOneEventTooLargeForKafkaIsDroppedAlone(t *testing.T) {
	f := func(name string, away bool) {
		t.Run(name, func(t *testing.T) {
			b := startOwnBroker(t, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "20000"}))
			cfg := b.topic(1)
			s := consume(t, cfg)
			p := newProducer(t, testProducer(t, cfg, t.TempDir()))
			if away {
				b.stop()
			}
			const n = 64
			for i := range n {
				p.Emit("acme", fmt.Appendf(nil, "%d", i))
				if i == 40 {
					p.Emit("acme", noise(30_000))
				}
			}
			run(t, p.Run)
			if away {
				eventually(t, "the batch is spooled", func() error {
					if p.Stats().EventsSpooled != n+1 {
						return fmt.Errorf("%+v", p.Stats())
					}
					return nil
				})
				b.start()
			}
			s.requireEach(t, n, p)
			eventually(t, "the books balance", func() error {
				if stats := p.Stats(); stats.EventsOut != n || stats.Dropped["too_large"] != 1 || stats.SpoolBytes != 0 {
					return fmt.Errorf("%+v", stats)
				}
				return nil
			})
		})
	}
	f("on the way", false)
	f("from the spool", true)
}

// A frozen broker takes connections and requests and never answers.
func TestStopIsBoundedWhileKafkaHangs(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(1)
	hold := make(chan struct{})
	defer close(hold)
	b.hang(hold)
	producerConfig := testProducer(t, cfg, t.TempDir())
	producerConfig.StopTimeout = 10 * time.Millisecond
	p := newProducer(t, producerConfig)
	producer := run(t, p.Run)
	const n = 100
	for i := range n {
		p.Emit("acme", fmt.Appendf(nil, "%d", i))
	}
	eventually(t, "the batch is on its way", func() error {
		if p.Stats().QueueEvents != 0 {
			return fmt.Errorf("%+v", p.Stats())
		}
		return nil
	})
	producer.stop(t)
	stats := p.Stats()
	if stats.EventsSpooled != n {
		t.Errorf("stats after a stop while Kafka hangs: %+v, want %d events spooled", stats, n)
	}
	if stats.EventsRepeatPossible != 0 {
		t.Errorf("%d events counted as possible repeats: Kafka will recognise them", stats.EventsRepeatPossible)
	}
}

func TestBrokenSpoolDoesNotStopTheFlow(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(1)
	dir := t.TempDir()
	b.stop()
	p := newProducer(t, testProducer(t, cfg, dir))
	run(t, p.Run)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	p.Emit("acme", []byte("lost"))
	eventually(t, "the loss is counted", func() error {
		if p.Stats().Dropped["spool_error"] != 1 {
			return fmt.Errorf("%+v", p.Stats())
		}
		return nil
	})
	b.start()
	eventually(t, "later events arrive", func() error {
		p.Emit("acme", []byte("kept"))
		if p.Stats().EventsOut == 0 {
			return fmt.Errorf("%+v", p.Stats())
		}
		return nil
	})
}

func TestNewProducerRefusesBadConfig(t *testing.T) {
	f := func(change func(*ProducerConfig), want string) {
		t.Helper()
		cfg := testProducer(t, Config{Brokers: []string{"127.0.0.1:9092"}, Topic: "t"}, t.TempDir())
		change(&cfg)
		if _, err := NewProducer(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want it to name %s", err, want)
		}
	}
	f(func(c *ProducerConfig) { c.Brokers = nil }, "Brokers")
	f(func(c *ProducerConfig) { c.Brokers = []string{"nowhere"} }, "nowhere")
	f(func(c *ProducerConfig) { c.Topic = "" }, "Topic")
	f(func(c *ProducerConfig) { c.SpoolDir = "" }, "SpoolDir")
	f(func(c *ProducerConfig) { c.NoSpool = true }, "NoSpool")
	f(func(c *ProducerConfig) { c.Logger = nil }, "Logger")
	f(func(c *ProducerConfig) {
		other := newProducer(t, *c)
		t.Cleanup(func() { run(t, other.Run).stop(t) })
	}, "another process")
}
