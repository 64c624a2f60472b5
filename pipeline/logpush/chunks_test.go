package logpush

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tidegate/pipeline/stream"
)

// library is a Reader of memories that counts fetches.
type library struct {
	memory *memory

	mu      sync.Mutex
	fetches []int64 // offsets
	open    int
}

func (l *library) FetchBatches(ctx context.Context, partition int, offset int64, wait bool) ([]stream.Batches, error) {
	l.mu.Lock()
	l.open++
	l.mu.Unlock()
	batches, err := l.memory.FetchBatches(ctx, partition, offset, wait)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if len(batches) > 0 {
		l.fetches = append(l.fetches, offset)
	}
	return batches, err
}

func newLibrary(t *testing.T, limit int64) (*library, *chunks) {
	t.Helper()
	m, err := newMetrics()
	if err != nil {
		t.Fatal(err)
	}
	l := &library{memory: newMemory()}
	return l, newChunks(l, limit, m)
}

// read follows a partition from an offset to another one as a delivery does.
func read(c *chunks, from, to int64) (got []int64) {
	for from < to {
		ticket := c.ask(3, from)
		<-ticket.ready
		k := ticket.take()
		if k != nil {
			for _, r := range k.from(from) {
				got = append(got, r.Offset)
			}
			from = k.next
			c.put(k)
		}
		ticket.leave()
	}
	return got
}

// The story: 200 jobs read and decoded the topic 200 times.
func TestJobsAtTheHeadShareEachRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c := newLibrary(t, 1<<20)
		const jobs, rounds, each = 200, 20, 5
		var readers sync.WaitGroup
		for range jobs {
			readers.Go(func() {
				got := read(c, 0, rounds*each)
				for i, offset := range got {
					if offset != int64(i) {
						t.Errorf("record %d is that of offset %d", i, offset)
						return
					}
				}
			})
		}
		for range rounds {
			synctest.Wait()
			l.memory.add(fill(each)...)
		}
		readers.Wait()
		c.wait()
		if len(l.fetches) != rounds {
			t.Errorf("%d fetches brought records, want %d", len(l.fetches), rounds)
		}
	})
}

func TestAJobThatLagsReadsForItselfAndDisturbsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c := newLibrary(t, 20_000) // some chunks
		l.memory.add(fill(7000)...)
		var late sync.WaitGroup
		late.Go(func() { read(c, 0, 7000) })
		late.Wait()
		behind := len(l.fetches)
		if behind != 1000 {
			t.Errorf("%d fetches for 1,000 answers", behind)
		}
		var readers sync.WaitGroup
		for range 20 {
			readers.Go(func() { read(c, 7000, 7070) })
		}
		for range 10 {
			synctest.Wait()
			l.memory.add(fill(7)...)
		}
		late.Go(func() { read(c, 0, 7000) })
		late.Wait()
		readers.Wait()
		c.wait()
		head := 0
		for _, offset := range l.fetches[behind:] {
			if offset >= 7000 {
				head++
			}
		}
		if head != 10 {
			t.Errorf("twenty jobs at the head needed %d fetches of 10 answers", head)
		}
	})
}

func TestAFetchOutlivesWhoAskedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c := newLibrary(t, 1<<20)
		first, second := c.ask(3, 0), c.ask(3, 0)
		synctest.Wait()
		first.leave()
		l.memory.add(fill(3)...)
		<-second.ready
		if second.err != nil || second.chunk.next != 3 {
			t.Errorf("the second got %+v, %v", second.chunk, second.err)
		}
		second.leave()
		c.wait()

		alone := c.ask(3, 3)
		synctest.Wait()
		alone.leave()
		c.wait() // hangs if the fetch goes on for nobody
		if l.open != 0 {
			t.Errorf("%d fetches go on", l.open)
		}
		again := c.ask(3, 3) // not the one that was given up
		l.memory.add(fill(1)...)
		<-again.ready
		if again.err != nil {
			t.Error(again.err)
		}
		again.leave()
	})
}

func TestTheCacheIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c := newLibrary(t, 100_000)
		l.memory.add(fill(7000)...)
		read(c, 0, 7000)
		if size := c.size(); size > 100_000 || size < 50_000 {
			t.Errorf("the cache has %d bytes of 100,000", size)
		}
		held := 0
		for _, list := range c.cached {
			held += len(list)
			if !slices.IsSortedFunc(list, func(a, b *chunk) int { return int(a.offset - b.offset) }) {
				t.Error("the cache is not in order")
			}
		}
		if held != len(c.oldest) {
			t.Errorf("%d chunks by partition, %d by age", held, len(c.oldest))
		}
		before := len(l.fetches)
		read(c, 6990, 7000) // still there, also in the middle of a chunk
		if len(l.fetches) != before {
			t.Error("what is in the cache was fetched")
		}
	})
}

// Chunks that wait for who asked for them hold memory: only so many are loaded.
func TestLoadsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c := newLibrary(t, 1)
		l.memory.add(fill(7000)...)
		var tickets []*ticket
		for i := range 100 {
			tickets = append(tickets, c.ask(3, int64(i*70)))
		}
		synctest.Wait()
		ready := func() (n int) {
			for _, ticket := range tickets {
				select {
				case <-ticket.ready:
					n++
				default:
				}
			}
			return n
		}
		if n := ready(); n != cap(c.loads) {
			t.Errorf("%d chunks are loaded, want %d", n, cap(c.loads))
		}
		var askers sync.WaitGroup
		for _, ticket := range tickets {
			askers.Go(func() {
				<-ticket.ready
				ticket.leave()
			})
		}
		askers.Wait()
		if n := len(c.loads); n > 0 {
			t.Errorf("%d places are held by nobody", n)
		}
		c.wait()
	})
}

func TestAPartitionThatIsNotWhatItWasIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c := newLibrary(t, 1<<20)
		l.memory.add(fill(70)...)
		read(c, 0, 70)
		l.memory.cut(0)
		l.memory.add("exception")
		ticket := c.ask(3, 70)
		<-ticket.ready
		if ticket.err == nil {
			t.Fatal("an offset behind the end was fetched")
		}
		ticket.leave()
		ticket = c.ask(3, 0)
		<-ticket.ready
		k := ticket.take()
		if got := string(k.records[0].event.Raw("Outcome")); got != `"exception"` {
			t.Errorf("the first record is one of before: %s", got)
		}
		ticket.leave()
	})
}

// A job whose destination hangs holds no chunk and no desk: others go on.
func TestAHangingDestinationHoldsNoChunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, with := newLibrary(t, 1<<20)
		hang := make(chan struct{})
		var worlds []*world
		for i := range 8 {
			w := newWorld(t)
			w.memory, w.chunks = l.memory, with
			w.job = job(int64(i + 1))
			w.job.MaxUploadRecords = ptr(int64(1000))
			if i < 6 {
				w.bucket.hang = hang
			}
			worlds = append(worlds, w)
		}
		var runs []*run
		for _, w := range worlds {
			w.memory = own(l.memory)
			runs = append(runs, w.start())
		}
		l.memory.add(fill(4000)...)
		pass(time.Minute)
		for _, w := range worlds[6:] {
			if text := w.bucket.text(t); text != lines(0, 4000) {
				t.Errorf("job %d delivered %d bytes beside those that hang", w.job.ID, len(text))
			}
		}
		if n := len(with.desks) + len(with.loads); n > 0 {
			t.Errorf("%d places are held by jobs that wait", n)
		}
		close(hang)
		pass(time.Minute)
		for i, w := range worlds {
			if text := w.bucket.text(t); text != lines(0, 4000) {
				t.Errorf("job %d delivered %d bytes", w.job.ID, len(text))
			}
			runs[i].stop()
		}
		with.wait()
	})
}

// own gives a reader commits of its own on the records of a memory.
func own(m *memory) *memory { return &memory{records: m.records, grown: m.grown, next: m.next} }
