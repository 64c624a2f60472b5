package logpush

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// externalKafka names brokers, comma separated, to run these tests on instead of
// the broker in this process.
const externalKafka = "TIDEGATE_TEST_KAFKA"

var quiet = slog.New(slog.DiscardHandler)

// platform is a topic of two partitions, a producer of numbered events, and the
// control plane's jobs.
type platform struct {
	t        *testing.T
	stream   stream.Config
	producer *stream.Producer
	produced int
	buckets  map[string]*bucket // by job id, as in a destination_conf
	reports  reports

	mu      sync.Mutex
	jobs    []logjob.Job
	jobsErr error
	running map[string]int // members by group
}

func newPlatform(t *testing.T) *platform {
	t.Helper()
	var brokers []string
	if addrs := os.Getenv(externalKafka); addrs != "" {
		brokers = strings.Split(addrs, ",")
	} else {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond),
			kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cluster.Close)
		brokers = cluster.ListenAddrs()
	}
	p := &platform{t: t, buckets: map[string]*bucket{}, running: map[string]int{},
		stream: stream.Config{Brokers: brokers, Topic: fmt.Sprintf("logpush-%d", rand.Uint64())}}
	if err := stream.EnsureTopic(t.Context(), p.stream, 2, 1, 0); err != nil {
		t.Fatal(err)
	}
	var err error
	p.producer, err = stream.NewProducer(stream.ProducerConfig{Config: p.stream, Schema: schema.EventSchemaVersion,
		SpoolDir: t.TempDir(), Linger: time.Millisecond, BatchEventsMax: 25, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	p.background(p.producer.Run)
	return p
}

// background runs f until stop is called or the test ends.
func (p *platform) background(f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				p.t.Errorf("Run: %v", err)
			}
		case <-time.After(time.Minute):
			p.t.Error("Run did not return within a minute of its context's end")
		}
	})
	p.t.Cleanup(stop)
	return stop
}

// Jobs and ReportDelivery make the platform a control plane.
func (p *platform) Jobs(context.Context) ([]logjob.Job, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.jobs), p.jobsErr
}

func (p *platform) ReportDelivery(ctx context.Context, d logjob.Delivery) error {
	return p.reports.add(ctx, d)
}

// set stores a job under a new revision.
func (p *platform) set(j logjob.Job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.jobs {
		if p.jobs[i].ID == j.ID {
			j.Revision = p.jobs[i].Revision + 1
			p.jobs[i] = j
			return
		}
	}
	p.jobs = append(p.jobs, j)
}

// addJob creates a job with a bucket of its own.
func (p *platform) addJob(id int64) (logjob.Job, *bucket) {
	j, b := job(id), newBucket()
	p.buckets[fmt.Sprint(id)] = b
	p.set(j)
	return j, b
}

// manage starts a manager, with changes of its configuration.
func (p *platform) manage(change ...func(*Config)) (stop func()) {
	p.t.Helper()
	config := Config{DefaultInterval: 100 * time.Millisecond, PollInterval: 20 * time.Millisecond}
	for _, one := range change {
		one(&config)
	}
	reader, err := stream.NewReader(p.stream, quiet)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(reader.Close)
	m, err := New(config, p,
		Sinks{"bucket": func(u *url.URL) (Sink, error) { return p.buckets[u.Host], nil }},
		func(groupID string) Group {
			return &group{platform: p, id: groupID,
				Group: stream.NewGroup(stream.GroupConfig{Config: p.stream, GroupID: groupID + p.stream.Topic, Logger: quiet})}
		}, reader, quiet)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.background(m.Run)
}

// group counts the members that run.
type group struct {
	*stream.Group
	platform *platform
	id       string
}

func (g *group) Run(ctx context.Context, handler stream.Handler) error {
	g.platform.members(g.id, 1)
	defer g.platform.members(g.id, -1)
	return g.Group.Run(ctx, handler)
}

// members changes how many members a group has here, and returns that number.
func (p *platform) members(groupID string, change int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running[groupID] += change
	return p.running[groupID]
}

// produce sends n more events and waits until Kafka has them.
func (p *platform) produce(n int) {
	p.t.Helper()
	for range n {
		p.producer.Emit(account, event("ok", p.produced))
		p.produced++
	}
	eventually(p.t, func() error {
		if s := p.producer.Stats(); int(s.EventsOut) != p.produced {
			return fmt.Errorf("Kafka has %d of %d events", s.EventsOut, p.produced)
		}
		return nil
	})
}

// numbers returns the numbers of the events in a bucket, in order of arrival.
func numbers(t testing.TB, b *bucket) (list []int) {
	t.Helper()
	for d := json.NewDecoder(strings.NewReader(b.text(t))); ; {
		var e struct{ WallTimeMs int }
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, e.WallTimeMs)
	}
}

// holds waits until a bucket has each of the numbers exactly once.
func holds(t testing.TB, b *bucket, from, to int) {
	t.Helper()
	eventually(t, func() error {
		got := numbers(t, b)
		slices.Sort(got)
		if !slices.Equal(got, sequence(from, to)) {
			return fmt.Errorf("the bucket has %d events, want %d to %d once each", len(got), from, to-1)
		}
		return nil
	})
}

func sequence(from, to int) (list []int) {
	for i := from; i < to; i++ {
		list = append(list, i)
	}
	return list
}

func eventually(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after a minute: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
