package ingest

import (
	"context"
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"tidegate/schema"
)

// valve is an address in front of a server at which bytes go on or wait.
type valve struct {
	mu   sync.Mutex
	open *sync.Cond
	shut bool
}

// startValve returns the valve before an http:// address, and its own.
func startValve(t *testing.T, server string) (v *valve, addr string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v = &valve{}
	v.open = sync.NewCond(&v.mu)
	t.Cleanup(func() {
		v.set(false)
		_ = listener.Close() // nobody connects any more
	})
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // the test has ended
			}
			backend, err := new(net.Dialer).DialContext(context.Background(), "tcp", strings.TrimPrefix(server, "http://"))
			if err != nil {
				_ = client.Close() // which the client sees
				continue
			}
			go v.pass(backend, client)
			go v.pass(client, backend)
		}
	}()
	return v, "http://" + listener.Addr().String()
}

func (v *valve) set(shut bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shut = shut
	v.open.Broadcast()
}

func (v *valve) pass(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }() // both ends see it
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		v.mu.Lock()
		for v.shut {
			v.open.Wait()
		}
		v.mu.Unlock()
		if _, writeErr := to.Write(b[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// heavy is an event of about so many bytes that do not compress well.
func heavy(n, bytes int) []byte {
	noise := make([]byte, bytes*3/4)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	var e schema.TraceEvent
	if err := schema.DecodeEvent(value(n), &e); err != nil {
		panic(err)
	}
	e.Logs = []schema.Log{{Level: "log", Message: messages(`"` + base64.StdEncoding.EncodeToString(noise) + `"`), TimestampMs: noon.UnixMilli()}}
	return e.AppendJSON(nil)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// ClickHouse takes nothing for a while, in the middle of inserts, and events keep coming:
// ingest stops to fetch at its bound, and when ClickHouse goes on so does ingest, and
// every event counts once.
func TestAStalledClickHouseStopsFetching(t *testing.T) {
	const (
		partitions, perBatch, eventBytes = 4, 40, 16 << 10
		batches                          = 24 // of each partition, so 60 MiB in all
		memory                           = 32 << 20
		answerMax                        = 1 << 20 // of a fetch: it is full with half of that, or has one batch
	)
	reader := collected(t)
	v, addr := startValve(t, serverAddr(t))
	db, c := openDB(t, addr), startKafka(t, partitions)
	in := newIngest(t, db, func(cfg *Config) { cfg.MemoryBytes, cfg.InsertsMax = memory, 2 })
	produce := func(n int) {
		for range n {
			for p := range partitions {
				values := make([][]byte, perBatch)
				for i := range values {
					values[i] = heavy(i, eventBytes)
				}
				c.produce(p, values...)
			}
		}
	}
	produce(2)
	c.run(in.HandlePartition)
	eventually(t, "some are stored", func() bool { return stored(t, db) > 0 })
	v.set(true)
	produce(batches / 2)
	before := heap()

	where := func(name string) attribute.KeyValue { return attribute.String("where", name) }
	fetched := func() int64 { return int64(seriesValue(t, reader, "tidegate_ingest_held_bytes", where("fetched"))) }
	const bound = memory/2 + partitions*answerMax
	eventually(t, "it holds what it may", func() bool { return fetched() >= memory/2 })
	produce(batches / 2)
	held, since, giveUp := fetched(), time.Now(), time.Now().Add(time.Minute)
	for time.Since(since) < 2*time.Second { // a while in which nothing may grow, once what is on its way has come
		now := fetched()
		if now > bound {
			t.Fatalf("%d bytes are held, above %d", now, bound)
		}
		if now != held && time.Now().After(giveUp) {
			t.Fatalf("it went on fetching: %d bytes are held, %d before", now, held)
		}
		if now != held {
			held, since = now, time.Now()
		}
		time.Sleep(50 * time.Millisecond)
	}
	blocks := int64(seriesValue(t, reader, "tidegate_ingest_held_bytes", where("blocks")))
	if blocks > memory/4 {
		t.Errorf("blocks have %d bytes, above %d", blocks, memory/4)
	}
	if grown := heap() - before; grown > memory+16<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	if n := seriesValue(t, reader, "tidegate_ingest_inserts"); n != 2 {
		t.Errorf("%v inserts are under way, want both", n)
	}
	if max, most := seriesValue(t, reader, "tidegate_ingest_held_bytes_max"), seriesValue(t, reader, "tidegate_ingest_inserts_max"); max != memory/2 || most != 2 {
		t.Errorf("the bounds are shown as %v and %v", max, most)
	}
	v.set(false)
	c.wantExactly(db, 0)
	if fetched() != 0 {
		t.Errorf("%d bytes are held of nothing", fetched())
	}
	for _, what := range []string{waitInsert, waitMemory} {
		if waited := seriesValue(t, reader, "tidegate_ingest_wait_seconds_total", attribute.String("for", what)); waited <= 0 {
			t.Errorf("waited %v s for %s", waited, what)
		}
	}
	t.Logf("held at most %d bytes of fetched events, %d of blocks", held, blocks)
}

// No more blocks are stored at once than there are slots; and one that ClickHouse
// refuses for ever does not keep its slot from the others.
func TestSlotsBoundInserts(t *testing.T) {
	const partitions, slots = 8, 2
	var running, most atomic.Int64
	w := &fakeWriter{}
	poison := newFake(1000, 10)
	w.onInsert = func(_ context.Context, token string) error {
		n := running.Add(1)
		defer running.Add(-1)
		for {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		time.Sleep(2 * time.Millisecond) // so that they meet
		if strings.HasPrefix(token, "topic-4-1000-") {
			return errors.New("refused")
		}
		return nil
	}
	in := newIngest(t, w, func(c *Config) { c.InsertsMax, c.RowsMax = slots, 5 })
	start(t, in, poison)
	var all []*fakePartition
	for i := range partitions {
		p := newFake(int64(i)*100, 50)
		all = append(all, p)
		start(t, in, p)
	}
	for i, p := range all {
		eventually(t, "all is stored", func() bool { return p.settledAt(int64(i)*100 + 50) })
	}
	if n := most.Load(); n != slots {
		t.Errorf("%d inserts at once, want %d", n, slots)
	}
	poison.mu.Lock()
	defer poison.mu.Unlock()
	for _, commit := range poison.commits { // one for each attempt
		if !strings.HasPrefix(commit, "1000 ") {
			t.Errorf("the refused partition's commits are %q", poison.commits)
			break
		}
	}
}

// What comes while a block waits for a slot is in that block.
func TestABlockGrowsWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		w := &fakeWriter{}
		w.onInsert = func(_ context.Context, token string) error {
			if strings.HasPrefix(token, "topic-4-0-1-") {
				<-release
			}
			return nil
		}
		in := newIngest(t, w, func(c *Config) { c.InsertsMax, c.Interval = 1, 200*time.Millisecond })
		stopFirst := start(t, in, newFake(0, 1)) // takes the slot
		synctest.Wait()
		time.Sleep(50 * time.Millisecond)
		second := newFake(100, 1)
		stopSecond := start(t, in, second)
		for range 9 {
			time.Sleep(time.Second)
			second.write(good(second.next))
		}
		synctest.Wait()
		close(release)
		time.Sleep(time.Second)
		if !second.settledAt(110) || !slices.Equal(w.events[w.tokens[1]], seq(100, 110)) {
			t.Errorf("blocks are %v", w.events)
		}
		if err := errors.Join(stopFirst(), stopSecond()); err != nil {
			t.Error(err)
		}
	})
}

// After a quiet time events are stored at once; where they keep coming, a block has those
// of an interval.
func TestPaceFollowsTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const interval, linger, every = 200 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond
		var mu sync.Mutex
		var begun []time.Duration
		p, w, epoch := newFake(0, 0), &fakeWriter{}, time.Now()
		w.onInsert = func(context.Context, string) error {
			mu.Lock()
			defer mu.Unlock()
			begun = append(begun, time.Since(epoch))
			return nil
		}
		stop := start(t, newIngest(t, w, func(c *Config) { c.Interval, c.Linger = interval, linger }), p)
		time.Sleep(time.Hour)
		epoch = time.Now()
		for range 100 { // two seconds
			p.write(good(p.next))
			time.Sleep(every)
		}
		time.Sleep(time.Second)
		if err := stop(); err != nil {
			t.Error(err)
		}
		for i := range paceBurst {
			if want := time.Duration(i)*every + linger; begun[i] != want {
				t.Errorf("block %d begins after %s, want %s", i, begun[i], want)
			}
		}
		for i := paceBurst + 1; i < len(begun); i++ {
			if gap := begun[i] - begun[i-1]; gap < interval-every || gap > interval+every {
				t.Errorf("block %d begins %s after the one before", i, gap)
			}
		}
		if n := len(begun); n < 11 || n > paceBurst+11 {
			t.Errorf("%d blocks in two seconds: %v", n, begun)
		}
	})
}

// A fetch that fails for good ends nothing before what was fetched is stored.
func TestWhatWasFetchedIsStoredBeforeAGap(t *testing.T) {
	p, w := newFake(0, 10), &fakeWriter{}
	p.fetchMax = 3
	p.gap = 6 // retention takes what lies before 8 once it is to be read
	stop := start(t, newIngest(t, w, func(c *Config) { c.Interval = time.Hour }), p)
	eventually(t, "all that is kept is stored", func() bool { return p.settledAt(10) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if want := slices.Concat(seq(0, 6), seq(8, 10)); !slices.Equal(w.offsets(), want) {
		t.Errorf("stored offsets are %v, want %v", w.offsets(), want)
	}
}
