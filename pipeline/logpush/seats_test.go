package logpush

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"tidegate/pipeline/stream"
)

// look takes the chunk at an offset as a delivery does, passes it, and returns the offset behind it.
func look(t *testing.T, c *chunks, s *seat, from int64) int64 {
	t.Helper()
	ticket := c.ask(s.partition, from)
	<-ticket.ready
	k := ticket.take()
	if k == nil {
		t.Fatalf("there is no chunk at offset %d: %v", from, ticket.err)
	}
	next := k.next
	c.put(k)
	ticket.leave()
	c.pass(s, next)
	return next
}

// cachedOffsets are those of the chunks of a partition in the cache, and what they hold.
func (c *chunks) cachedOffsets(partition int) (list []int64, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.cached[partition] {
		list = append(list, k.offset)
	}
	return list, c.bytes
}

func TestWhatAllHavePassedIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c := newLibrary(t, 1<<30)
		l.memory.add(fill(70)...)
		expect := func(want ...int64) {
			t.Helper()
			got, bytes := c.cachedOffsets(3)
			if !slices.Equal(got, want) || (len(want) == 0) != (bytes == 0) {
				t.Errorf("the cache has the chunks at %v, %d bytes, want %v", got, bytes, want)
			}
		}
		first, second := c.join(3), c.join(3)
		other := c.join(4) // of another partition: it holds nothing here
		at := look(t, c, first, 0)
		at = look(t, c, first, at)
		expect(0, 7) // the second has not said where it stands
		look(t, c, second, 0)
		expect(7)
		c.pass(second, 10) // in the middle of a chunk
		expect(7)
		late := c.join(3)
		look(t, c, second, 7)
		expect(7) // the one that came late may want it
		c.quit(late)
		expect()
		look(t, c, first, at)
		expect(14)
		c.quit(second)
		expect() // by all who are left
		look(t, c, first, 21)
		look(t, c, first, 35)
		c.pass(first, 0) // it went back, and the rest is fetched again
		look(t, c, first, 28)
		c.quit(first)
		expect()
		c.quit(other)
		if len(c.seats) != 0 {
			t.Errorf("seats are left: %v", c.seats)
		}
		c.wait()
	})
}

// The memory of a chunk goes to another one once nobody is left who uses it, and not before.
func TestAChunkInUseKeepsItsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c := newLibrary(t, 1<<30)
		l.memory.add(fill(14)...)
		s := c.join(3)
		ticket := c.ask(3, 0)
		<-ticket.ready
		k := ticket.take()
		c.pass(s, 7) // by all: it leaves the cache
		if list, _ := c.cachedOffsets(3); len(list) != 0 {
			t.Fatalf("the cache still has %v", list)
		}
		if len(c.spare) != 0 || len(k.from(0)) != 7 {
			t.Fatalf("%d memories are free while the chunk is in use, which has %d records", len(c.spare), len(k.from(0)))
		}
		used := k.arena
		ticket.leave() // the chunk is still taken
		if len(c.spare) != 0 {
			t.Fatal("the memory is free while the chunk is in use")
		}
		c.put(k)
		if len(c.spare) != 1 || c.spare[0] != used || k.arena != nil || k.records != nil {
			t.Fatalf("%d memories are free after the last use", len(c.spare))
		}
		ticket = c.ask(3, 7)
		<-ticket.ready
		next := ticket.take()
		if next.arena != used || len(next.from(7)) != 7 || next.from(7)[0].Offset != 7 {
			t.Errorf("the next chunk has %d records, in the same memory: %v", len(next.from(7)), next.arena == used)
		}
		c.put(next)
		ticket.leave()
		c.quit(s)
	})
}

func TestMemoryThatIsTooMuchIsNotKept(t *testing.T) {
	_, c := newLibrary(t, 1<<30)
	const entryBytes = 200
	for range 2 * cap(c.desks) {
		c.recycle(&chunk{arena: &arena{}})
	}
	if len(c.spare) != cap(c.desks) {
		t.Errorf("%d memories are kept, for %d desks", len(c.spare), cap(c.desks))
	}
	c.spare = nil
	c.recycle(&chunk{arena: &arena{entries: make([]entry, arenaMax/entryBytes)}})
	if len(c.spare) != 0 {
		t.Error("more memory is kept than is worth it")
	}
}

// shop is a Reader whose answers are full: behind each there is more.
type shop struct {
	mu      sync.Mutex
	asked   []int64
	waiting int // fetches at the end of the partition
	end     int64
}

func (s *shop) FetchBatches(ctx context.Context, _ int, offset int64, wait bool) ([]stream.Batches, error) {
	s.mu.Lock()
	s.asked = append(s.asked, offset)
	end := s.end
	s.mu.Unlock()
	if offset < end {
		b := stream.BatchesOf([]stream.Record{{Offset: offset, Account: account, Value: event("ok", int(offset))}})
		b.Ahead = b.Next
		return []stream.Batches{b}, nil
	}
	if !wait {
		return nil, nil
	}
	s.mu.Lock()
	s.waiting++
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.waiting--
	s.mu.Unlock()
	return nil, ctx.Err()
}

func (s *shop) were() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// What follows a full answer is fetched while that is looked at, once, and no further:
// only looking at it fetches what comes next.
func TestWhatFollowsAFullAnswerIsReadAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustMetrics(t)
		reader := &shop{end: 3}
		c := newChunks(reader, 1<<30, m)
		s := c.join(3)
		expect := func(want ...int64) {
			t.Helper()
			synctest.Wait()
			if got := reader.were(); !slices.Equal(got, want) {
				t.Errorf("fetched were %v, want %v", got, want)
			}
		}
		look(t, c, s, 0)
		expect(0, 1)
		if list, _ := c.cachedOffsets(3); !slices.Equal(list, []int64{1}) {
			t.Errorf("the cache has %v: what nobody asked for yet is to stay", list)
		}
		look(t, c, s, 1)
		expect(0, 1, 2)
		look(t, c, s, 2) // the last one: nobody waits at the end for who has not asked
		expect(0, 1, 2, 3)
		if n := len(c.loads); n != 0 || len(c.flights) != 0 || reader.waiting != 0 {
			t.Errorf("%d places are held, %d fetches are under way, %d of them wait", n, len(c.flights), reader.waiting)
		}
		// Who comes to the end waits there, in a fetch of its own.
		ticket := c.ask(3, 3)
		synctest.Wait()
		if reader.waiting != 1 || len(c.loads) != 0 {
			t.Errorf("%d fetches wait, %d places are held", reader.waiting, len(c.loads))
		}
		ticket.leave()
		c.quit(s)
		c.close()
	})
}

// Reading ahead gives way: it takes a place only if one is free, and never two for one spot.
func TestReadingAheadTakesNoPlaceFromWhoAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := &shop{end: 100}
		c := newChunks(reader, 1<<30, mustMetrics(t))
		for range cap(c.loads) {
			c.loads <- struct{}{}
		}
		c.readAhead(spot{3, 50})
		synctest.Wait()
		if got := reader.were(); len(got) != 0 {
			t.Errorf("fetched were %v while there was no place", got)
		}
		for range cap(c.loads) {
			<-c.loads
		}
		c.readAhead(spot{3, 50})
		c.readAhead(spot{3, 50}) // under way
		synctest.Wait()
		c.readAhead(spot{3, 50}) // in the cache
		synctest.Wait()
		if got := reader.were(); !slices.Equal(got, []int64{50}) {
			t.Errorf("fetched were %v", got)
		}
		if len(c.loads) != 0 {
			t.Errorf("%d places are held", len(c.loads))
		}
		c.close()
	})
}

// Whoever asks for what is being read ahead gets that fetch, and keeps it when it is over.
func TestWhoAsksJoinsWhatIsReadAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c := newLibrary(t, 1) // nothing stays in the cache
		l.memory.add(fill(7)...)
		hold := make(chan struct{})
		l.memory.fetching = func(int64) { <-hold }
		c.readAhead(spot{3, 0})
		synctest.Wait()
		ticket := c.ask(3, 0)
		close(hold)
		<-ticket.ready
		synctest.Wait()
		k := ticket.take()
		if k == nil || len(k.from(0)) != 7 || len(l.fetches) != 1 {
			t.Fatalf("got %+v after %d fetches", k, len(l.fetches))
		}
		c.put(k)
		ticket.leave()
		if len(c.loads) != 0 || len(c.flights) != 0 {
			t.Errorf("%d places are held, %d fetches are under way", len(c.loads), len(c.flights))
		}
		c.close()
	})
}
