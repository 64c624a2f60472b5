package stream

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	realkafka "tidegate/test/real/kafka"
)

// These tests take brokers of a real cluster away. They need TIDEGATE_TEST_KAFKA_CLUSTER.

// memberArgument makes this binary a member of a group, for tests to kill: its next
// argument is a GroupConfig.
const memberArgument = "group-member"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == memberArgument {
		if err := runMember(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "member:", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) == 4 && os.Args[1] == producerArgument {
		if err := runProducer(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, "producer:", err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if err := realkafka.CloseShared(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the cluster:", err)
		code = 1
	}
	os.Exit(code)
}

// history is what members of a group read, by partition and offset. Records count
// when they are read, before the commit: a member that dies has read them.
type history struct {
	t      testing.TB
	mu     sync.Mutex
	values map[int]map[int64]string
	reads  int
}

func newHistory(t testing.TB) *history { return &history{t: t, values: map[int]map[int64]string{}} }

func (h *history) add(partition int, offset int64, value string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.values[partition] == nil {
		h.values[partition] = map[int64]string{}
	}
	if was, ok := h.values[partition][offset]; ok && was != value {
		h.t.Errorf("offset %d of partition %d was %q and is %q now", offset, partition, was, value)
	}
	h.values[partition][offset] = value
	h.reads++
}

// handle reads and commits. Nothing compacts our topics, so offsets follow each other.
func (h *history) handle(ctx context.Context, p Partition) error {
	next, _, ok := p.Committed()
	for ctx.Err() == nil {
		records, err := fetchRecords(ctx, p)
		if err != nil {
			return err
		}
		for _, r := range records {
			if r.Offset != next && (ok || r.Offset != 0) {
				h.t.Errorf("partition %d: offset %d came where %d was expected", p.ID(), r.Offset, next)
			}
			next, ok = r.Offset+1, true
			h.add(p.ID(), r.Offset, string(r.Value))
		}
		if err := p.Commit(ctx, next, ""); err != nil {
			return err
		}
	}
	return nil
}

// counts returns how often each value is in the topic, as far as it was read without
// a gap.
func (h *history) counts() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	counts := map[string]int{}
	for _, values := range h.values {
		for offset := int64(0); offset < int64(len(values)); offset++ {
			if value, ok := values[offset]; ok {
				counts[value]++
			}
		}
	}
	return counts
}

// requireAll waits until every one of n numbered events was read, and requires that
// the producer lost none, and that none came twice.
func (h *history) requireAll(n int, p *Producer) {
	h.t.Helper()
	for out := p.Stats().EventsOut; out < uint64(n); out = p.Stats().EventsOut {
		awaitFlow(h.t, p, min(500, uint64(n)-out)) // a spool takes its time on a busy machine
	}
	eventually(h.t, "every event was read and the books balance", func() error {
		stats := p.Stats()
		if got := len(h.counts()); got != n || stats.SpoolBytes != 0 || stats.EventsOut != uint64(n) {
			return fmt.Errorf("read %d of %d events; producer %+v", got, n, stats)
		}
		return nil
	})
	repeats := 0
	for _, count := range h.counts() {
		repeats += count - 1
	}
	if possible := p.Stats().EventsRepeatPossible; repeats > 0 || possible > 0 {
		h.t.Errorf("%d events are in the topic twice, %d were counted as possible repeats", repeats, possible)
	}
	h.t.Logf("%d events; %d went through the spool", n, p.Stats().EventsSpooled)
}

// clusterTopic makes a topic with three replicas that are in sync.
func clusterTopic(t testing.TB, c *realkafka.Cluster, partitions int) Config {
	t.Helper()
	cfg := Config{Brokers: c.Access().Plaintext, Topic: unique("events")}
	if err := EnsureTopic(testContext(t), cfg, partitions, 3, 0); err != nil {
		t.Fatal(err)
	}
	if err := c.Heal(testContext(t)); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// emission emits numbered events until it is stopped.
type emission struct {
	stop func() int // returns how many there were
}

func emit(t testing.TB, p *Producer) emission {
	done, ended := make(chan struct{}), make(chan struct{})
	n := 0
	go func() {
		defer close(ended)
		ticker := time.NewTicker(2 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				p.Emit("acme", fmt.Appendf(nil, "%d", n))
				n++
			}
		}
	}()
	stop := sync.OnceValue(func() int {
		close(done)
		<-ended
		return n
	})
	t.Cleanup(func() { stop() })
	return emission{stop}
}

// awaitFlow waits until so many more events were confirmed.
func awaitFlow(t testing.TB, p *Producer, more uint64) {
	t.Helper()
	before := p.Stats().EventsOut
	eventually(t, "events flow", func() error {
		if s := p.Stats(); s.EventsOut < before+more {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

func awaitSpooled(t testing.TB, p *Producer, more uint64) {
	t.Helper()
	before := p.Stats().EventsSpooled
	eventually(t, "events are spooled", func() error {
		if s := p.Stats(); s.EventsSpooled < before+more {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

func leader(t testing.TB, c *realkafka.Cluster, cfg Config, partition int) int {
	t.Helper()
	id, err := c.Leader(testContext(t), cfg.Topic, partition)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// underLoad produces to a topic of a cluster and reads it, while trouble happens.
func underLoad(t *testing.T, trouble func(c *realkafka.Cluster, cfg Config, p *Producer)) {
	c := realkafka.ForTest(t)
	cfg := clusterTopic(t, c, 3)
	p := newProducer(t, testProducer(t, cfg, t.TempDir()))
	run(t, p.Run)
	h := newHistory(t)
	for range 2 {
		run(t, func(ctx context.Context) error { return NewGroup(testGroup(t, cfg, cfg.Topic)).Run(ctx, h.handle) })
	}
	alone := newHistory(t)
	alone.readAlone(cfg)
	load := emit(t, p)
	awaitFlow(t, p, 200)
	trouble(c, cfg, p)
	awaitFlow(t, p, 500)
	n := load.stop()
	h.requireAll(n, p)
	alone.requireAll(n, p)
}

// readAlone reads all partitions, also new ones, without a group.
func (h *history) readAlone(cfg Config) {
	reader, err := NewReader(cfg, testLogger(h.t))
	noError(h.t, err)
	h.t.Cleanup(reader.Close)
	run(h.t, func(ctx context.Context) error {
		var partitions sync.WaitGroup
		defer partitions.Wait()
		for known := 0; ctx.Err() == nil; {
			ids, err := reader.Partitions(ctx)
			for err == nil && known < len(ids) {
				id := ids[known]
				partitions.Go(func() { h.readPartitionAlone(ctx, reader, id) })
				known++
			}
			_ = Sleep(ctx, time.Second) // the loop looks at ctx
		}
		return nil
	})
}

func (h *history) readPartitionAlone(ctx context.Context, reader *Reader, id int) {
	for next := int64(0); ; {
		batches, err := reader.FetchBatches(ctx, id, next, true)
		var records []Record
		if err == nil {
			records, err = recordsOf(batches, next)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			h.t.Errorf("read partition %d at %d: %v", id, next, err)
			return
		}
		for _, r := range records {
			if r.Offset != next {
				h.t.Errorf("partition %d: offset %d came where %d was expected", id, r.Offset, next)
			}
			next = r.Offset + 1
			h.add(id, r.Offset, string(r.Value))
		}
	}
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestClusterLeaderIsKilled(t *testing.T) {
	underLoad(t, func(c *realkafka.Cluster, cfg Config, p *Producer) {
		for partition := range 2 {
			id := leader(t, c, cfg, partition)
			noError(t, c.Kill(id))
			awaitFlow(t, p, 1000) // without it
			noError(t, c.Restart(testContext(t), id))
			noError(t, c.Heal(testContext(t)))
		}
	})
}

// A paused broker accepts connections and answers nothing, until the others depose it;
// when it goes on it believes for a moment that it still leads.
func TestClusterBrokerIsPausedForLongerThanARequest(t *testing.T) {
	underLoad(t, func(c *realkafka.Cluster, cfg Config, p *Producer) {
		id := leader(t, c, cfg, 0)
		started := time.Now()
		noError(t, c.Pause(id))
		eventually(t, "a request ran out of time and another broker leads", func() error {
			if time.Since(started) < requestTimeout+time.Second {
				return fmt.Errorf("paused for %s", time.Since(started))
			}
			now, err := c.Leader(testContext(t), cfg.Topic, 0)
			if err == nil && now == id {
				err = fmt.Errorf("broker %d still leads", id)
			}
			return err
		})
		awaitFlow(t, p, 1000) // without it
		noError(t, c.Resume(id))
	})
}

func TestClusterIsRestarted(t *testing.T) {
	underLoad(t, func(c *realkafka.Cluster, _ Config, p *Producer) {
		for _, id := range c.Brokers() {
			noError(t, c.Kill(id))
		}
		awaitSpooled(t, p, 500)
		noError(t, c.Restart(testContext(t), c.Brokers()...))
	})
}

func TestClusterHasTooFewReplicasInSync(t *testing.T) {
	underLoad(t, func(c *realkafka.Cluster, cfg Config, p *Producer) {
		client := newClient(cfg)
		defer closeClient(client)
		answer, err := client.AlterConfigs(testContext(t), &kafka.AlterConfigsRequest{Resources: []kafka.AlterConfigRequestResource{{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: cfg.Topic,
			Configs: []kafka.AlterConfigRequestConfig{{Name: "min.insync.replicas", Value: "3"}},
		}}})
		noError(t, err)
		for _, err := range answer.Errors {
			noError(t, err)
		}
		id := leader(t, c, cfg, 0)
		noError(t, c.Kill(id))
		awaitSpooled(t, p, 500)
		out := p.Stats().EventsOut
		awaitSpooled(t, p, 500)
		if now := p.Stats().EventsOut; now != out {
			t.Errorf("%d events were confirmed with two of three replicas", now-out)
		}
		noError(t, c.Restart(testContext(t), id))
	})
}

func TestClusterTopicGrowsWhileAGroupReads(t *testing.T) {
	underLoad(t, func(_ *realkafka.Cluster, cfg Config, p *Producer) {
		client := newClient(cfg)
		defer closeClient(client)
		answer, err := client.CreatePartitions(testContext(t), &kafka.CreatePartitionsRequest{
			Topics: []kafka.TopicPartitionsConfig{{Name: cfg.Topic, Count: 7}},
		})
		noError(t, err)
		noError(t, answer.Errors[cfg.Topic])
		eventually(t, "new partitions get events", func() error {
			listed, err := listOffsets(testContext(t), client, cfg.Topic, []kafka.OffsetRequest{
				kafka.LastOffsetOf(3), kafka.LastOffsetOf(4), kafka.LastOffsetOf(5), kafka.LastOffsetOf(6),
			})
			for id, o := range listed {
				if o.LastOffset == 0 {
					return fmt.Errorf("partition %d has none", id)
				}
			}
			return err
		})
	})
}

// A member that is killed says no goodbye: its partitions are given away when its
// session is over, and go on where it had committed.
func TestClusterMemberJoinsAndIsKilled(t *testing.T) {
	c := realkafka.ForTest(t)
	cfg := clusterTopic(t, c, 4)
	p := newProducer(t, testProducer(t, cfg, t.TempDir()))
	run(t, p.Run)
	h := newHistory(t)
	run(t, func(ctx context.Context) error { return NewGroup(testGroup(t, cfg, cfg.Topic)).Run(ctx, h.handle) })
	load := emit(t, p)
	for range 2 {
		awaitFlow(t, p, 200)
		startMember(t, GroupConfig{Config: cfg, GroupID: cfg.Topic, SessionTimeout: 6 * time.Second}, h)()
	}
	awaitFlow(t, p, 500)
	h.requireAll(load.stop(), p)
}

// startMember starts one in a process of its own and returns when it has read
// something. What it reads goes into h until it is killed.
func startMember(t testing.TB, cfg GroupConfig, h *history) (kill func()) {
	t.Helper()
	text, err := json.Marshal(cfg)
	noError(t, err)
	cmd := exec.CommandContext(testContext(t), os.Args[0], memberArgument, string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	noError(t, err)
	noError(t, cmd.Start())
	read, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		first := sync.OnceFunc(func() { close(read) })
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var partition int
			var offset int64
			place, value, _ := strings.Cut(lines.Text(), "=")
			if _, err := fmt.Sscanf(place, "%d %d", &partition, &offset); err == nil {
				h.add(partition, offset, value)
				first()
			}
		}
	}()
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
		_ = cmd.Wait() // killed
	})
	t.Cleanup(kill)
	select {
	case <-read:
	case <-time.After(30 * time.Second):
		t.Fatal("a second member of the group read nothing within 30 s")
	}
	return kill
}

func runMember(text string) error {
	var cfg GroupConfig
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		return err
	}
	cfg.Logger = quiet
	return NewGroup(cfg).Run(context.Background(), func(ctx context.Context, p Partition) error {
		for ctx.Err() == nil {
			records, err := fetchRecords(ctx, p)
			if err != nil {
				return err
			}
			for _, r := range records {
				fmt.Printf("%d %d=%s\n", p.ID(), r.Offset, r.Value)
			}
			if err := p.Commit(ctx, records[len(records)-1].Offset+1, ""); err != nil {
				return err
			}
		}
		return nil
	})
}
