package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

func startBroker(t *testing.T, addr, dir string, topics ...Topic) *Broker {
	t.Helper()
	b, err := StartBroker(t.Context(), BrokerConfig{Addr: addr, DataDir: dir, Topics: topics, Logger: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func produce(ctx context.Context, addr, topic string, values ...string) error {
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections() // the default one looks for the broker for ever, also where another server is by then
	w := &kafka.Writer{Addr: kafka.TCP(addr), Transport: transport, Topic: topic, RequiredAcks: kafka.RequireAll, MaxAttempts: 3, BatchTimeout: time.Millisecond, Balancer: &kafka.RoundRobin{}}
	var messages []kafka.Message
	for _, v := range values {
		messages = append(messages, kafka.Message{Value: []byte(v)})
	}
	return errors.Join(w.WriteMessages(ctx, messages...), w.Close())
}

// offsets returns a partition's first offset and the one after its last.
func offsets(t *testing.T, addr, topic string, partition int) (first, end int64) {
	t.Helper()
	conn, err := kafka.DialLeader(t.Context(), "tcp", addr, topic, partition)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	first, end, err = conn.ReadOffsets()
	if err != nil {
		t.Fatal(err)
	}
	return first, end
}

func TestBrokerKeepsItsAddressRecordsAndGroupsOverARestart(t *testing.T) {
	dir := t.TempDir()
	topic := Topic{Name: "events", Partitions: 1, Retention: time.Hour}
	b := startBroker(t, "127.0.0.1:0", dir, topic)
	addr := b.Addr()
	if err := produce(t.Context(), addr, "events", "a", "b", "c"); err != nil {
		t.Fatal(err)
	}
	read := func(want string) {
		t.Helper()
		r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{addr}, Topic: "events", GroupID: "g", MaxWait: 50 * time.Millisecond})
		defer func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}()
		m, err := r.FetchMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "record", string(m.Value), want)
		if err := r.CommitMessages(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	read("a")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr); err == nil {
		t.Errorf("closed, it still takes connections: %v", conn.Close())
	}

	again := startBroker(t, addr, dir, topic)
	equal(t, "address", again.Addr(), addr)
	read("b")
	if err := produce(t.Context(), addr, "events", "d"); err != nil {
		t.Fatal(err)
	}
	_, end := offsets(t, addr, "events", 0)
	equal(t, "end offset", end, 4)
}

func TestBrokerTakesOverRetentionAndMorePartitions(t *testing.T) {
	dir := t.TempDir()
	b := startBroker(t, "127.0.0.1:0", dir, Topic{Name: "events", Partitions: 1})
	if err := produce(t.Context(), b.Addr(), "events", "a"); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = startBroker(t, "127.0.0.1:0", dir, Topic{Name: "events", Partitions: 3, Retention: 2 * time.Hour}, Topic{Name: "other", Partitions: 2})

	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(b.Addr()), Transport: transport}
	meta, err := client.Metadata(t.Context(), &kafka.MetadataRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range meta.Topics {
		equal(t, topic.Name+" partitions", len(topic.Partitions), map[string]int{"events": 3, "other": 2}[topic.Name])
	}
	configs, err := client.DescribeConfigs(t.Context(), &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{
		{ResourceType: kafka.ResourceTypeTopic, ResourceName: "events", ConfigNames: []string{"retention.ms"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "retention.ms", configs.Resources[0].ConfigEntries[0].ConfigValue, "7200000")
	_, end := offsets(t, b.Addr(), "events", 0)
	equal(t, "end offset of the old partition", end, 1)
}

func TestBrokerDoesNotCreateTopicsOnItsOwn(t *testing.T) {
	b := startBroker(t, "127.0.0.1:0", t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := produce(ctx, b.Addr(), "nosuch", "a"); !errors.Is(err, kafka.UnknownTopicOrPartition) {
		t.Errorf("got %v, want %v", err, kafka.UnknownTopicOrPartition)
	}
}

func TestBrokerRefusesAForeignAddressAndASharedDirectory(t *testing.T) {
	if b, err := StartBroker(t.Context(), BrokerConfig{Addr: "0.0.0.0:0", DataDir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("got %v and %v, want a refusal that says why", b, err)
	}
	dir := t.TempDir()
	startBroker(t, "127.0.0.1:0", dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if b, err := StartBroker(ctx, BrokerConfig{Addr: "127.0.0.1:0", DataDir: dir}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v and %v, want a refusal that says why", b, err)
	}
}

// kfake's own retention empties an idle partition, which after a restart begins at offset 0 again: offsets
// that consumers had committed, and the ClickHouse tokens made of them, would come a second time.
func TestBrokerRetentionNeverTakesOffsetsBack(t *testing.T) {
	dir := t.TempDir()
	b := startBroker(t, "127.0.0.1:0", dir, Topic{Name: "events", Partitions: 2, Retention: time.Hour})
	for i := range 10 { // a batch each, as retention takes whole batches
		if err := produce(t.Context(), b.Addr(), "events", strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.expire(t.Context(), "events", time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	first, end := offsets(t, b.Addr(), "events", 0)
	equal(t, "nothing is old: first offset", first, 0)
	total := end

	if err := b.expire(t.Context(), "events", time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	first, end = offsets(t, b.Addr(), "events", 0)
	equal(t, "all is old: first offset", first, total-1)
	equal(t, "all is old: end offset", end, total)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = startBroker(t, "127.0.0.1:0", dir)
	_, end = offsets(t, b.Addr(), "events", 0)
	equal(t, "after a restart: end offset", end, total)
}

// runBrokerChild serves a broker until it is killed.
func runBrokerChild(args []string) int {
	b, err := StartBroker(context.Background(), BrokerConfig{
		Addr: "127.0.0.1:0", DataDir: args[0], Topics: []Topic{{Name: "events", Partitions: 2, Retention: time.Hour}},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(b.Addr())
	select {}
}

func TestBrokerComesBackFromKillWithAllItAcknowledged(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	var committed int64
	for round := range 3 {
		addr, kill := brokerChild(t, dir)
		client := &kafka.Client{Addr: kafka.TCP(addr)}
		if round > 0 {
			fetched, err := client.OffsetFetch(t.Context(), &kafka.OffsetFetchRequest{GroupID: "g", Topics: map[string][]int{"events": {0}}})
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "committed offset", fetched.Topics["events"][0].CommittedOffset, committed)
			equal(t, "commit metadata", fetched.Topics["events"][0].Metadata, fmt.Sprint("plan ", committed))
		}
		for i := range 50 {
			value := fmt.Sprint(round, "/", i)
			if err := produce(t.Context(), addr, "events", value); err != nil {
				t.Fatal(err)
			}
			acknowledged[value] = true
		}
		committed = int64(10 * (round + 1))
		resp, err := client.OffsetCommit(t.Context(), &kafka.OffsetCommitRequest{GroupID: "g", GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{
			"events": {{Partition: 0, Offset: committed, Metadata: fmt.Sprint("plan ", committed)}},
		}})
		if err != nil || resp.Topics["events"][0].Error != nil {
			t.Fatal(err, resp)
		}
		// Cut off in the middle of writing.
		writing := make(chan struct{})
		go func() {
			defer close(writing)
			for i := 50; ; i++ {
				value := fmt.Sprint(round, "/", i)
				if produce(t.Context(), addr, "events", value) != nil {
					return
				}
				acknowledged[value] = true
			}
		}()
		kill()
		<-writing
	}

	b := startBroker(t, "127.0.0.1:0", dir)
	for partition := range 2 {
		first, end := offsets(t, b.Addr(), "events", partition)
		r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{b.Addr()}, Topic: "events", Partition: partition, MaxWait: 50 * time.Millisecond})
		for range end - first {
			m, err := r.ReadMessage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			delete(acknowledged, string(m.Value))
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(acknowledged) > 0 {
		t.Errorf("%d acknowledged records are lost: %v", len(acknowledged), acknowledged)
	}
}

// brokerChild starts a broker in a process of its own; kill sends it SIGKILL and waits for its end.
func brokerChild(t *testing.T, dir string) (addr string, kill func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "broker-child", dir)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line), func() {
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // reports the kill
	}
}
