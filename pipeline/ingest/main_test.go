package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"tidegate/internal/clickhouse"
	"tidegate/internal/clickhouse/clickhousetest"
	"tidegate/internal/embedded"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// externalServer names a ClickHouse to run on instead of the embedded engine.
// Tests that kill the engine need the latter.
const externalServer = "TIDEGATE_TEST_CLICKHOUSE"

// shared is the engine of the tests that don't kill it.
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

func serverAddr(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() {
		if shared.addr = os.Getenv(externalServer); shared.addr != "" {
			return
		}
		if shared.dir, shared.err = os.MkdirTemp("", "tidegate-ingest-"); shared.err != nil {
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

var (
	databases atomic.Int64
	made      clickhousetest.Tables
)

// openDB returns migrated tables in a database of their own.
func openDB(t testing.TB, addr string) *clickhouse.DB {
	t.Helper()
	db, _ := openNamed(t, addr)
	return db
}

// openNamed is openDB for those who ask the server themselves.
func openNamed(t testing.TB, addr string) (*clickhouse.DB, string) {
	t.Helper()
	cfg := clickhouse.DefaultConfig(addr)
	cfg.Database = fmt.Sprintf("ingest_%d_%d", time.Now().UnixNano(), databases.Add(1))
	db, err := clickhouse.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(db.Close(), drop(addr, cfg.Database)); err != nil {
			t.Error(err)
		}
	})
	if err := made.Make(t.Context(), addr, cfg.Database, func() error { return db.Migrate(t.Context()) }); err != nil {
		t.Fatal(err)
	}
	return db, cfg.Database
}

// drop removes a test's database.
func drop(addr, database string) error {
	_, err := clickhousetest.Ask(context.Background(), addr, "DROP DATABASE IF EXISTS "+database+" SYNC")
	return err
}

// cluster is a real broker with one topic.
type cluster struct {
	t          testing.TB
	partitions int
	addr       string
	client     *kafka.Client
	produced   atomic.Int64
	sampledOut atomic.Int64 // that the good ones stand for
}

func startKafka(t testing.TB, partitions int) *cluster {
	t.Helper()
	broker, err := embedded.StartBroker(t.Context(), embedded.BrokerConfig{
		Addr: "127.0.0.1:0", DataDir: t.TempDir(),
		Topics: []embedded.Topic{{Name: "topic", Partitions: int32(partitions)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := broker.Close(); err != nil {
			t.Error(err)
		}
	})
	transport := &kafka.Transport{}
	t.Cleanup(transport.CloseIdleConnections) // or it looks for the broker for ever, also where another server is by then
	return &cluster{t: t, partitions: partitions, addr: broker.Addr(), client: &kafka.Client{Addr: kafka.TCP(broker.Addr()), Transport: transport}}
}

// produce writes values to a partition, each a record of the test account.
func (c *cluster) produce(partition int, values ...[]byte) {
	c.t.Helper()
	records := make([]kafka.Record, len(values))
	var e schema.TraceEvent
	for i, v := range values {
		if schema.DecodeEvent(v, &e) == nil {
			c.sampledOut.Add(e.Gateway.SampledOut)
		}
		records[i] = kafka.Record{Time: noon, Value: kafka.NewBytes(v), Headers: headersOf(testAccount)}
	}
	c.produceRecords(partition, records...)
}

func headersOf(account string) []kafka.Header {
	return []kafka.Header{{Key: "account", Value: []byte(account)}, {Key: "schema", Value: []byte("1")}}
}

// produceRecords writes records of any kind as one batch.
func (c *cluster) produceRecords(partition int, records ...kafka.Record) {
	c.t.Helper()
	answer, err := c.client.Produce(c.t.Context(), &kafka.ProduceRequest{
		Topic: "topic", Partition: partition, RequiredAcks: kafka.RequireAll, Compression: kafka.Zstd, Records: kafka.NewRecordReader(records...),
	})
	if err == nil {
		err = answer.Error
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.produced.Add(int64(len(records)))
}

// produceGood writes n good events to every partition.
func (c *cluster) produceGood(n int) {
	c.t.Helper()
	values := make([][]byte, n)
	for i := range values {
		values[i] = value(i)
	}
	for p := range c.partitions {
		c.produce(p, values...)
	}
}

// run starts a member of the group with handler until stop.
func (c *cluster) run(handler stream.Handler) (stop func()) {
	ctx, cancel := context.WithCancel(c.t.Context())
	group := stream.NewGroup(stream.GroupConfig{
		Config: stream.Config{Brokers: []string{c.addr}, Topic: "topic"}, GroupID: "ingest",
		SessionTimeout: 3 * time.Second, RebalanceTimeout: 10 * time.Second, Logger: testLog(c.t),
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := group.Run(ctx, handler); err != nil {
			c.t.Error(err)
		}
	})
	stop = func() {
		cancel()
		wg.Wait()
	}
	c.t.Cleanup(stop)
	return stop
}

// settled reports whether the group's offsets are at the end of every partition,
// with no plan left.
func (c *cluster) settled() bool {
	c.t.Helper()
	var ids []int
	var ends []kafka.OffsetRequest
	for id := range c.partitions {
		ids, ends = append(ids, id), append(ends, kafka.LastOffsetOf(id))
	}
	committed, err := c.client.OffsetFetch(c.t.Context(), &kafka.OffsetFetchRequest{GroupID: "ingest", Topics: map[string][]int{"topic": ids}})
	if err != nil || committed.Error != nil {
		return false // a rebalance; asked again
	}
	listed, err := c.client.ListOffsets(c.t.Context(), &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{"topic": ends}})
	if err != nil {
		return false
	}
	next := map[int]int64{}
	for _, o := range listed.Topics["topic"] {
		next[o.Partition] = o.LastOffset
	}
	settled := 0
	for _, o := range committed.Topics["topic"] {
		if o.Error == nil && o.CommittedOffset == next[o.Partition] {
			settled++
		}
	}
	return settled == c.partitions
}

// wantExactly waits until everything produced is settled, and fails unless each
// table then holds every good event exactly once.
func (c *cluster) wantExactly(db *clickhouse.DB, quarantined int64) {
	c.t.Helper()
	eventually(c.t, "everything is settled", c.settled)
	got, err := db.Counts(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	events, others := c.produced.Load()-quarantined, c.sampledOut.Load()
	n := events + others
	if want := (clickhouse.Counts{Events: events, SampledOut: others, Seconds: n, Minutes: n, Hours: n, Quarantined: quarantined}); got != want {
		c.t.Fatalf("counts are %+v, want %+v", got, want)
	}
}
