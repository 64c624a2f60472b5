package exactlyonce

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"tidegate/internal/embedded"
	"tidegate/pipeline/stream"
	"tidegate/schema"
	"tidegate/test/platform"
	realkafka "tidegate/test/real/kafka"
)

const (
	ingestGroup = "tidegate-ingest"
	// sessionTimeout is how long an ingest may be silent, and so what a round takes at
	// least. Brokers of tests allow it to be so short.
	sessionTimeout = 2 * time.Second
	patience       = 3 * time.Minute // a machine that also compiles other things
)

// broker is a Kafka that may be killed, or an external one.
type broker struct {
	addrs   []string
	task    brokerTask // of our own
	process *platform.Process
	cluster *realkafka.Cluster // nil if it is another kind
	client  *kafka.Client
	log     io.Writer
}

func startBroker(t *testing.T, partitions int) *broker {
	t.Helper()
	b := &broker{log: logOf(t, "broker")}
	if external := os.Getenv(externalKafka); external != "" {
		b.addrs = strings.Split(external, ",")
	} else {
		b.task = brokerTask{Addr: freeAddr(t), Dir: t.TempDir(), Topic: embedded.Topic{Name: schema.Topic, Partitions: int32(partitions)}} // #nosec G115 -- a few
		b.addrs = []string{b.task.Addr}
		if err := b.start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.process.Kill() })
	}
	b.connect(t, partitions)
	return b
}

// startOnCluster makes the topic on a cluster of several brokers.
func startOnCluster(t *testing.T, cluster *realkafka.Cluster, partitions int) *broker {
	t.Helper()
	b := &broker{cluster: cluster, addrs: cluster.Access().Plaintext}
	b.connect(t, partitions)
	return b
}

// connect waits until the topic is there.
func (b *broker) connect(t *testing.T, partitions int) {
	t.Helper()
	transport := &kafka.Transport{MetadataTTL: 500 * time.Millisecond, DialTimeout: 3 * time.Second}
	t.Cleanup(transport.CloseIdleConnections) // or it looks for the broker for ever, also where another server is by then
	b.client = &kafka.Client{Addr: kafka.TCP(b.addrs...), Timeout: 5 * time.Second, Transport: transport}
	if b.process == nil {
		b.remake(t, partitions)
	}
	eventually(t, "the topic is there", func() error {
		if n, err := b.partitions(t.Context()); err != nil || n != partitions {
			return fmt.Errorf("%d partitions: %w", n, err)
		}
		return nil
	})
}

// start starts the process of our own broker, which is the same as before to its clients.
func (b *broker) start() error {
	text, err := json.Marshal(b.task)
	if err != nil {
		return err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), brokerVariable+"="+string(text))
	cmd.Stderr = b.log
	if _, err := cmd.StdinPipe(); err != nil { // closed by the kernel when this process is gone
		return err
	}
	b.process, err = platform.StartCommand(cmd)
	return err
}

// remake deletes topic and group of an external Kafka, which earlier runs left, and
// makes the topic.
func (b *broker) remake(t *testing.T, partitions int) {
	t.Helper()
	replication := min(3, len(b.addrs))
	eventually(t, "a fresh topic", func() error {
		if _, err := b.client.DeleteGroups(t.Context(), &kafka.DeleteGroupsRequest{GroupIDs: []string{ingestGroup}}); err != nil {
			return err
		}
		if _, err := b.client.DeleteTopics(t.Context(), &kafka.DeleteTopicsRequest{Topics: []string{schema.Topic}}); err != nil {
			return err
		}
		answer, err := b.client.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{
			Topic: schema.Topic, NumPartitions: partitions, ReplicationFactor: replication}}})
		if err != nil {
			return err
		}
		return answer.Errors[schema.Topic]
	})
}

func (b *broker) partitions(ctx context.Context) (int, error) {
	meta, err := b.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{schema.Topic}})
	if err != nil {
		return 0, err
	}
	for _, topic := range meta.Topics {
		if topic.Name == schema.Topic {
			return len(topic.Partitions), topic.Error
		}
	}
	return 0, kafka.UnknownTopicOrPartition
}

// grow adds a partition.
func (b *broker) grow(ctx context.Context) error {
	n, err := b.partitions(ctx)
	if err != nil {
		return err
	}
	answer, err := b.client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{
		Topics: []kafka.TopicPartitionsConfig{{Name: schema.Topic, Count: int32(n + 1)}}}) // #nosec G115 -- a few
	if err != nil {
		return err
	}
	return answer.Errors[schema.Topic]
}

// tables are ClickHouse's, of our own engine or of an external server.
type tables struct {
	addr     string // with the database
	base     string
	database string
	engine   *embedded.Engine // nil when external
}

func startTables(t *testing.T) *tables {
	t.Helper()
	db := &tables{base: strings.TrimRight(os.Getenv(externalClickHouse), "/"), database: fmt.Sprintf("chaos_%d", time.Now().UnixNano())}
	if db.base == "" {
		engine, err := embedded.StartEngine(t.Context(), embedded.EngineConfig{
			Addr: "127.0.0.1:0", DataDir: t.TempDir(), Command: []string{filepath.Join(bin, "tidegate"), "engine-child"},
			Logger: slog.New(slog.NewTextHandler(logOf(t, "engine"), nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := engine.Close(); err != nil {
				t.Error(err)
			}
		})
		db.engine, db.base = engine, "http://"+engine.Addr()
	}
	db.addr = db.base + "/" + db.database
	if os.Getenv(externalClickHouse) != "" {
		t.Cleanup(func() {
			if _, err := db.ask(context.Background(), "DROP DATABASE IF EXISTS "+db.database+" SYNC"); err != nil {
				t.Error(err)
			}
		})
	}
	return db
}

// ask runs a statement and returns the rows of its answer, by tabs.
func (db *tables) ask(ctx context.Context, statement string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	target := db.base + "/?async_insert=0"
	if !strings.HasPrefix(statement, "DROP DATABASE") {
		target += "&database=" + url.QueryEscape(db.database)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(statement))
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: HTTP %d: %.300s", statement, res.StatusCode, body)
	}
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for line := range strings.Lines(string(body)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return rows, nil
}

// must repeats a statement until it succeeds: the engine may be away.
func (db *tables) must(t *testing.T, statement string) {
	t.Helper()
	eventually(t, statement, func() error {
		_, err := db.ask(t.Context(), statement)
		return err
	})
}

// ingests are processes of bin/ingest. Its methods may be called concurrently.
type ingests struct {
	t    *testing.T
	args []string
	logs []*os.File
	mu   sync.Mutex
	list []*platform.Process // nil where one is being replaced
	all  []*platform.Process // that were ever started
}

func startIngests(t *testing.T, n int, b *broker, db *tables) *ingests {
	t.Helper()
	in := &ingests{t: t, list: make([]*platform.Process, n), args: []string{"--roles", "ingest", "--kafka", strings.Join(b.addrs, ","),
		"--clickhouse", db.addr, "--ingest-session-timeout", sessionTimeout.String()}}
	for i := range in.list {
		in.logs = append(in.logs, logOf(t, fmt.Sprint("ingest ", i)))
		in.start(i)
	}
	t.Cleanup(func() {
		for _, p := range in.all { // also those that a failed fault has in hand
			p.Kill()
		}
	})
	return in
}

func (in *ingests) start(i int) {
	p, err := platform.StartProcess(in.logs[i], nil, filepath.Join(bin, "ingest"), in.args...)
	if err != nil {
		in.t.Error(err)
		return
	}
	in.give(i, p)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.all = append(in.all, p)
}

// take gives out one process to break, if there is one that nobody breaks already.
func (in *ingests) take(i int) *platform.Process {
	in.mu.Lock()
	defer in.mu.Unlock()
	i %= len(in.list)
	p := in.list[i]
	in.list[i] = nil
	return p
}

// give takes one back that lives.
func (in *ingests) give(i int, p *platform.Process) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.list[i%len(in.list)] = p
}

// stop ends all of them as an operator would.
func (in *ingests) stop() error {
	var errs []error
	for i, p := range in.list {
		errs = append(errs, p.Terminate(platform.StopContract))
		in.list[i] = nil
	}
	return errors.Join(errs...)
}

// said counts the lines of all logs that have some words.
func (in *ingests) said(words string) int {
	n := 0
	for _, f := range in.logs {
		text, err := os.ReadFile(f.Name())
		if err != nil {
			in.t.Error(err)
		}
		n += strings.Count(string(text), words)
	}
	return n
}

func signalTo(pid int, s syscall.Signal) error {
	if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal %s to process %d: %w", s, pid, err)
	}
	return nil
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// logOf is a file whose end is shown if the test fails.
func logOf(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer f.Close()
		if !t.Failed() {
			return
		}
		text, err := os.ReadFile(f.Name())
		if err != nil {
			t.Log(err)
		}
		const keep = 6000
		t.Logf("the end of the log of %s:\n%s", name, text[max(0, len(text)-keep):])
	})
	return f
}

// eventually polls until check is content; it fails the test when patience ends.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if t.Context().Err() != nil || time.Now().After(deadline) {
			t.Fatalf("waited %s until %s: %v", patience, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// reader reads the topic without a group.
func (b *broker) reader(t *testing.T) *stream.Reader {
	t.Helper()
	r, err := stream.NewReader(stream.Config{Brokers: b.addrs, Topic: schema.Topic}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}
