package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidegate/internal/clickhouse"
	"tidegate/internal/embedded"
	"tidegate/pipeline/ingest"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// externalServer names a ClickHouse to run on instead of the embedded engine.
const externalServer = "TIDEGATE_TEST_CLICKHOUSE"

// shared is the engine of all tests; each has a database of its own.
var shared struct {
	once   sync.Once
	addr   string
	err    error
	engine *embedded.Engine
	dir    string
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "engine-child" {
		os.Exit(embedded.RunEngineChild(os.Args[2:]))
	}
	pause = 50 * time.Millisecond
	code := m.Run()
	if shared.engine != nil {
		if err := shared.engine.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the engine:", err)
			code = 1
		}
		_ = os.RemoveAll(shared.dir) // a temporary folder
	}
	os.Exit(code)
}

func serverAddr(t *testing.T) string {
	t.Helper()
	shared.once.Do(func() {
		if shared.addr = os.Getenv(externalServer); shared.addr != "" {
			return
		}
		if shared.dir, shared.err = os.MkdirTemp("", "tidegate-verify-"); shared.err != nil {
			return
		}
		shared.engine, shared.err = embedded.StartEngine(context.Background(), embedded.EngineConfig{
			Addr: "127.0.0.1:0", DataDir: shared.dir,
			Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		})
		if shared.err == nil {
			shared.addr = "http://" + shared.engine.Addr()
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.addr
}

const (
	topic   = "topic"
	group   = "ingest"
	account = "0123456789abcdef0123456789abcdef"
)

var databases atomic.Int64

// system is a broker, tables, and the ingest that a test starts between them.
type system struct {
	t          *testing.T
	broker     string
	client     *kafka.Client
	reader     *stream.Reader
	db         *clickhouse.DB
	base       string // ClickHouse's address
	database   string
	partitions int
	events     int // that were made
}

func newSystem(t *testing.T, partitions int, keep func(*clickhouse.Retention)) *system {
	t.Helper()
	broker, err := embedded.StartBroker(t.Context(), embedded.BrokerConfig{
		Addr: "127.0.0.1:0", DataDir: t.TempDir(), Topics: []embedded.Topic{{Name: topic, Partitions: int32(partitions)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := broker.Close(); err != nil {
			t.Error(err)
		}
	})
	transport := &kafka.Transport{MetadataTTL: 100 * time.Millisecond}
	t.Cleanup(transport.CloseIdleConnections) // or it looks for the broker for ever, also where another server is by then
	s := &system{t: t, broker: broker.Addr(), base: serverAddr(t), partitions: partitions,
		client: &kafka.Client{Addr: kafka.TCP(broker.Addr()), Transport: transport}}
	if s.reader, err = stream.NewReader(stream.Config{Brokers: []string{s.broker}, Topic: topic}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.reader.Close)
	cfg := clickhouse.DefaultConfig(s.base)
	s.database = fmt.Sprintf("verify_%d_%d", time.Now().UnixNano(), databases.Add(1))
	cfg.Database = s.database
	if keep != nil {
		keep(&cfg.Retention)
	}
	if s.db, err = clickhouse.Open(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.db.Close(), s.post("", "DROP DATABASE IF EXISTS "+s.database+" SYNC")); err != nil {
			t.Error(err)
		}
	})
	if err := s.db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// must runs a statement on the tables. What it deletes is gone when it returns, and what
// it inserts is no repeat to the engine.
func (s *system) must(statement string) {
	s.t.Helper()
	if err := s.post(s.database, statement); err != nil {
		s.t.Fatal(err)
	}
}

func (s *system) post(database, statement string) error {
	settings := url.Values{"mutations_sync": {"2"}, "async_insert": {"0"}, "insert_deduplicate": {"0"}}
	if database != "" {
		settings.Set("database", database)
	}
	res, err := http.Post(s.base+"/?"+settings.Encode(), "text/plain", strings.NewReader(statement))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: HTTP %d: %s", statement, res.StatusCode, body)
	}
	return err
}

// event is one of two scripts and three versions; some stand for others.
func (s *system) event(at time.Time) []byte {
	n := s.events
	s.events++
	e := schema.TraceEvent{
		ScriptName: []string{"shop", "cart"}[n%2], ScriptVersion: schema.ScriptVersion{ID: fmt.Sprintf("v%d", n%3)},
		EventTimestampMs: at.UnixMilli(), EventType: "fetch", Outcome: schema.OutcomeOK, WallTimeMs: new(int64(n % 50)),
		Gateway: schema.Gateway{Decision: schema.DecisionSplit, RayID: fmt.Sprintf("%016x", n)},
	}
	switch n % 7 {
	case 0:
		e.Gateway.SampledOut = int64(n % 5)
	case 1:
		e.Outcome = "exception"
	}
	return e.AppendJSON(nil)
}

// produce writes records of a time to a partition.
func (s *system) produce(partition int, at time.Time, values ...[]byte) {
	s.t.Helper()
	if err := s.send(partition, at, values...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *system) send(partition int, at time.Time, values ...[]byte) error {
	records := make([]kafka.Record, len(values))
	for i, v := range values {
		records[i] = kafka.Record{Time: at, Value: kafka.NewBytes(v), Headers: []kafka.Header{
			{Key: schema.HeaderAccount, Value: []byte(account)}, {Key: schema.HeaderSchema, Value: []byte(schema.EventSchemaVersion)}}}
	}
	answer, err := s.client.Produce(s.t.Context(), &kafka.ProduceRequest{Topic: topic, Partition: partition,
		RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...)})
	if err == nil {
		err = answer.Error
	}
	return err
}

// produceBroken writes a batch of n records to partition 0 that says zstd has compressed
// it, which is not so; its checksum is right.
func (s *system) produceBroken(n int) {
	s.t.Helper()
	now := time.Now().UnixMilli()
	batch := kmsg.RecordBatch{PartitionLeaderEpoch: -1, Magic: 2, Attributes: 4, LastOffsetDelta: int32(n - 1), FirstTimestamp: now, MaxTimestamp: now,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(n), Records: []byte("these are no records")}
	const atLength, behindLength, atChecksum, behindChecksum = 8, 12, 17, 21
	data := batch.AppendTo(nil)
	binary.BigEndian.PutUint32(data[atLength:], uint32(len(data)-behindLength))
	binary.BigEndian.PutUint32(data[atChecksum:], crc32.Checksum(data[behindChecksum:], crc32.MakeTable(crc32.Castagnoli)))
	answer, err := s.client.RawProduce(s.t.Context(), &kafka.RawProduceRequest{Topic: topic, RequiredAcks: kafka.RequireAll,
		RawRecords: protocol.RawRecordSet{Reader: bytes.NewReader(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))}})
	if err == nil {
		err = answer.Error
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// produceGood writes n events of the last seconds to each partition.
func (s *system) produceGood(n int) {
	s.t.Helper()
	now := time.Now()
	for p := range s.partitions {
		values := make([][]byte, n)
		for i := range values {
			values[i] = s.event(now.Add(-time.Duration(i%5000) * time.Millisecond))
		}
		s.produce(p, now, values...)
	}
}

// ingest starts a member of the group until stop.
func (s *system) ingest(change func(*ingest.Config)) (stop func()) {
	cfg := ingest.DefaultConfig(topic)
	cfg.Interval = 20 * time.Millisecond
	if change != nil {
		change(&cfg)
	}
	log := slog.New(slog.DiscardHandler)
	in, err := ingest.New(cfg, s.db, log)
	if err != nil {
		s.t.Fatal(err)
	}
	g := stream.NewGroup(stream.GroupConfig{Config: stream.Config{Brokers: []string{s.broker}, Topic: topic}, GroupID: group,
		SessionTimeout: 3 * time.Second, RebalanceTimeout: 10 * time.Second, Logger: log})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := g.Run(ctx, in.HandlePartition); err != nil {
			s.t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	s.t.Cleanup(stop)
	return stop
}

// stored lets ingest store everything, and stops it.
func (s *system) stored() {
	s.t.Helper()
	stop := s.ingest(nil)
	s.caughtUp()
	stop()
}

// caughtUp waits until the group is at the end of every partition.
func (s *system) caughtUp() {
	s.t.Helper()
	s.eventually("ingest has caught up", func() error {
		commits, err := s.reader.Commits(s.t.Context(), group)
		if err != nil {
			return err
		}
		for p := range s.partitions {
			_, next, err := s.reader.Bounds(s.t.Context(), p)
			if err != nil {
				return err
			}
			if c := commits[p]; c.Offset != next {
				return fmt.Errorf("partition %d is at %d of %d", p, c.Offset, next)
			}
		}
		return nil
	})
}

func (s *system) eventually(what string, check func() error) {
	s.t.Helper()
	const patience = 60 * time.Second
	for deadline := time.Now().Add(patience); ; {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("waited %s until %s: %v", patience, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// verify runs the verifier.
func (s *system) verify(change func(*Config)) Report {
	s.t.Helper()
	cfg := Config{Topic: topic, Group: group, Limit: 20, Planned: ingest.Planned}
	if change != nil {
		change(&cfg)
	}
	r, err := Run(s.t.Context(), cfg, s.reader, s.db)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}
