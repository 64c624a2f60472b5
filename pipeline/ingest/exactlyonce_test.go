package ingest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tidegate/internal/clickhouse"
	"tidegate/internal/embedded"
	"tidegate/pipeline/stream"
	tables "tidegate/schema/clickhouse"
)

// points are the places between the lines of the protocol at which a process can die.
var points = []string{
	"before the plan", "after the plan",
	"after the quarantine",
	"before the insert", "after the insert",
	"before the commit", "after the commit",
}

// death kills an Ingest, as far as anybody outside can tell, at the nth time that
// it reaches a point: from then on nothing it does has an effect.
type death struct {
	point string
	nth   int64
	seen  atomic.Int64
	dead  atomic.Bool
	at    chan struct{} // closed when it dies
}

var errDead = errors.New("dead")

func newDeath(point string, nth int) *death {
	return &death{point: point, nth: int64(nth), at: make(chan struct{})}
}

func (d *death) reach(point string) error {
	if point == d.point && d.seen.Add(1) == d.nth {
		d.dead.Store(true)
		close(d.at)
	}
	if d.dead.Load() {
		return errDead
	}
	return nil
}

// mortal wraps what an Ingest acts through.
type mortalWriter struct {
	*death
	Writer
}

func (w mortalWriter) InsertQuarantine(ctx context.Context, token string, rows *tables.Quarantine) error {
	if err := w.reach(""); err != nil {
		return err
	}
	if err := w.Writer.InsertQuarantine(ctx, token, rows); err != nil {
		return err
	}
	return w.reach("after the quarantine")
}

func (w mortalWriter) InsertEvents(ctx context.Context, token string, rows *tables.Events) error {
	if err := w.reach("before the insert"); err != nil {
		return err
	}
	if err := w.Writer.InsertEvents(ctx, token, rows); err != nil {
		return err
	}
	return w.reach("after the insert")
}

type mortalPartition struct {
	*death
	stream.Partition
}

func (p mortalPartition) Commit(ctx context.Context, offset int64, metadata string) error {
	line := "the commit"
	if m, err := parseMark(metadata); err != nil || m.plan != (plan{}) {
		line = "the plan"
	}
	if err := p.reach("before " + line); err != nil {
		return err
	}
	if err := p.Partition.Commit(ctx, offset, metadata); err != nil {
		return err
	}
	return p.reach("after " + line)
}

// mortal is a member of the group that dies.
func mortal(t testing.TB, c *cluster, d *death, w Writer, change func(*Config)) (stop func()) {
	in := newIngest(t, mortalWriter{d, w}, change)
	return c.run(func(ctx context.Context, p stream.Partition) error {
		return in.HandlePartition(ctx, mortalPartition{d, p})
	})
}

func smallBlocks(c *Config) { c.RowsMax = 20 }

func TestExactlyOnceWhereverIngestDies(t *testing.T) {
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			t.Parallel() // each spends its time waiting for disks and rebalances
			db, c := openDB(t, serverAddr(t)), startKafka(t, 2)
			c.produceGood(50) // two full blocks and a half a partition
			c.produce(0, []byte("poison"), value(1))
			c.produce(1, value(2), []byte("{}"))
			const quarantined = 2
			for nth := 1; nth <= 3; nth++ {
				d := newDeath(point, nth)
				// Each life would cut other blocks than the one before it.
				stop := mortal(t, c, d, db, func(cfg *Config) { cfg.RowsMax = 20 - 3*nth })
				eventually(t, "it died, or there was nothing more to die of", func() bool {
					select {
					case <-d.at:
						return true
					default:
						return c.settled()
					}
				})
				stop()
				if nth == 1 && !d.dead.Load() {
					t.Fatal("it never came to this point")
				}
				c.produceGood(5)
			}
			c.run(newIngest(t, db, smallBlocks).HandlePartition)
			c.wantExactly(db, quarantined)
		})
	}
}

// Members come and go while events keep coming, and some of them die.
func TestExactlyOnceWhileMembersComeAndGo(t *testing.T) {
	db, c := openDB(t, serverAddr(t)), startKafka(t, 2)
	stopFirst := c.run(newIngest(t, db, smallBlocks).HandlePartition)
	c.produceGood(60)
	eventually(t, "the first member works", func() bool { n, err := db.Counts(t.Context()); return err == nil && n.Events > 0 })

	d := newDeath("after the insert", 2)
	stopMortal := mortal(t, c, d, db, smallBlocks)
	eventually(t, "the second member took a partition over and died", func() bool {
		c.produceGood(1)
		select {
		case <-d.at:
			return true
		default:
			return false
		}
	})
	stopMortal()
	c.produceGood(30)
	stopFirst()
	c.run(newIngest(t, db, nil).HandlePartition)
	c.wantExactly(db, 0)
}

// A member whose insert hangs loses its partitions. What it does afterwards, the
// insert included, comes too late and must not count.
func TestExactlyOnceWithAZombie(t *testing.T) {
	db, c := openDB(t, serverAddr(t)), startKafka(t, 2)
	c.produceGood(50)
	zombie := &lateWriter{Writer: db, started: make(chan struct{}), release: make(chan struct{})}
	in := newIngest(t, zombie, func(cfg *Config) {
		smallBlocks(cfg)
		cfg.StopGrace = 10 * time.Millisecond
	})
	stopZombie := c.run(in.HandlePartition)
	<-zombie.started
	stopZombie()
	c.run(newIngest(t, db, nil).HandlePartition)
	c.wantExactly(db, 0)
	close(zombie.release) // its inserts reach the server only now
	zombie.late.Wait()
	if zombie.err != nil {
		t.Fatal(zombie.err)
	}
	c.wantExactly(db, 0)
}

// lateWriter answers when its context ends and inserts when it is released.
type lateWriter struct {
	Writer
	once    sync.Once
	started chan struct{}
	release chan struct{}
	slept   time.Duration // that go by until then, as far as the block tells
	late    sync.WaitGroup
	mu      sync.Mutex
	err     error // of the late inserts
}

func (w *lateWriter) InsertEvents(ctx context.Context, token string, rows *tables.Events) error {
	w.once.Do(func() { close(w.started) })
	held := *rows // the reader is gone before it would use the columns again
	held.ProvenAt = held.ProvenAt.Add(-w.slept)
	w.late.Go(func() {
		<-w.release
		if err := w.Writer.InsertEvents(context.WithoutCancel(ctx), token, &held); err != nil {
			w.mu.Lock()
			w.err = err
			w.mu.Unlock()
		}
	})
	<-ctx.Done()
	return ctx.Err()
}

// The server dies in the middle of inserts, again and again, under load.
func TestExactlyOnceWhileTheEngineIsKilled(t *testing.T) {
	if os.Getenv(externalServer) != "" {
		t.Skip(externalServer + " is set: the test kills the engine, which it may only do to its own")
	}
	engine, err := embedded.StartEngine(t.Context(), embedded.EngineConfig{Addr: "127.0.0.1:0", DataDir: t.TempDir(), Logger: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	db, c := openDB(t, "http://"+engine.Addr()), startKafka(t, 2)
	c.run(newIngest(t, db, func(cfg *Config) { cfg.RowsMax = 500 }).HandlePartition)
	for round := range 5 {
		c.produceGood(1500)
		// Another moment each time: somewhere among the round's six blocks.
		moment := int64(round*2*1500) + rand.Int64N(2500)
		eventually(t, "some of the round is stored", func() bool { return stored(t, db) > moment })
		if err := syscall.Kill(engine.Pid(), syscall.SIGKILL); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		eventually(t, "the engine is back", func() bool { return engine.Restarts() == round+1 && db.Ping(t.Context()) == nil })
	}
	c.wantExactly(db, 0)
}

// stored is how many events are visible, 0 while the engine is away.
func stored(t testing.TB, db *clickhouse.DB) int64 {
	n, err := db.Counts(t.Context())
	if err != nil {
		return 0
	}
	return n.Events
}

// A block may fail for good reasons or bad; bad records in every place of it must
// not change what happens to the rest.
func TestBadRecordsAmongGoodOnes(t *testing.T) {
	db, c := openDB(t, serverAddr(t)), startKafka(t, 2)
	bad := [][]byte{nil, []byte("\x00\xff"), []byte("[]"), []byte(`{"ScriptName":"s"}`), []byte(`{"ScriptName":1}`)}
	quarantined := int64(0)
	for mask := range 16 {
		var values [][]byte
		for i := range 4 {
			if mask>>i&1 == 1 {
				values = append(values, bad[(mask+i)%len(bad)])
				quarantined++
			} else {
				values = append(values, value(mask*4+i))
			}
		}
		c.produce(mask%2, values...)
	}
	c.run(newIngest(t, db, func(cfg *Config) { cfg.RowsMax = 4 }).HandlePartition)
	c.wantExactly(db, quarantined)
	rates, err := db.RatesBetween(t.Context(), testAccount, "shop", noon, noon.Add(time.Minute))
	if want := 64 - quarantined + c.sampledOut.Load(); err != nil || len(rates) != 1 || rates[0].Requests != want {
		t.Errorf("rates are %+v, %v, want one version with %d requests", rates, err, want)
	}
	if fmt.Sprint(rates[0].Assigned, rates[0].Status2xx) != fmt.Sprint(rates[0].Requests, rates[0].Requests) {
		t.Errorf("rates are %+v, want all assigned and 2xx", rates[0])
	}
}
