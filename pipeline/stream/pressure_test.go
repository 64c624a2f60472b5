package stream

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// spooledEvents empties a spool that nobody uses any more.
func spooledEvents(t *testing.T, dir string) (events uint64) {
	t.Helper()
	batches, lost := takeAll(t, mustOpenSpool(t, dir, 1<<30))
	if lost != (damage{}) {
		t.Errorf("the spool is damaged: %+v", lost)
	}
	for _, b := range batches {
		events += uint64(b.events)
	}
	return events
}

func droppedIn(s Stats) (n uint64) {
	for _, events := range s.Dropped {
		n += events
	}
	return n
}

// Kafka is away, and events come by the quarter of a gigabyte, far beyond all bounds:
// memory and disk take what they were given and no more, and every event is either in
// the spool or counted as dropped.
func TestPressureIsBoundedAndCounted(t *testing.T) {
	const (
		rounds, emitters, each, eventBytes = 16, 4, 1000, 4 << 10 // 256 MiB
		total                              = rounds * emitters * each
		queueMax, spoolMax, batchMax       = 2 << 20, 8 << 20, 256 << 10
		// Beside the queue there are the compressor's tables, some 35 MiB whatever comes in,
		// and batches: one being made, those on their way, one read from the spool.
		heapMax = queueMax + 64<<20
	)
	for _, policy := range []Fsync{FsyncAlways, Fsync(10 * time.Millisecond), FsyncNever} {
		t.Run(policy.String(), func(t *testing.T) {
			dir := t.TempDir()
			cfg := testProducer(t, Config{Brokers: []string{"127.0.0.1:1"}, Topic: "t"}, dir)
			cfg.QueueBytesMax, cfg.SpoolBytesMax, cfg.BatchBytesMax, cfg.SpoolFsync = queueMax, spoolMax, batchMax, policy
			p := newProducer(t, cfg)
			producer := run(t, p.Run)
			before := heapInUse()
			value := noise(eventBytes)
			for range rounds {
				var all sync.WaitGroup
				for range emitters {
					all.Go(func() {
						for range each {
							p.Emit("acme", bytes.Clone(value))
							if s := p.Stats(); s.QueueBytes > queueMax || s.SpoolBytes > spoolMax {
								t.Errorf("%d bytes are queued and %d spooled, above the bounds %d and %d", s.QueueBytes, s.SpoolBytes, queueMax, spoolMax)
								return
							}
						}
					})
				}
				all.Wait()
				if grown := heapInUse() - before; grown > heapMax {
					t.Errorf("the heap has grown by %d bytes, above %d", grown, heapMax)
				}
			}
			producer.stop(t)
			s := p.Stats()
			if s.EventsIn != total || s.EventsOut != 0 || s.QueueEvents != 0 || s.QueueBytes != 0 {
				t.Errorf("after the stop: %+v", s)
			}
			if s.Dropped["queue_full"]+s.Dropped["spool_full"] == 0 || s.EventsSpooled == 0 {
				t.Errorf("there was no pressure: %+v", s)
			}
			spooled := spooledEvents(t, dir)
			if spooled != s.EventsSpooled || s.EventsIn != spooled+droppedIn(s) {
				t.Errorf("%d came in; %d are in the spool, %d were dropped: %+v", s.EventsIn, spooled, droppedIn(s), s)
			}
		})
	}
}

// heapInUse is what the collector finds reachable.
func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// countFlushes makes a spool of a policy whose flushes are counted, and fail on demand.
func countFlushes(t *testing.T, policy Fsync) (s *spool, flushes *int, failing *error) {
	t.Helper()
	s = mustOpenSpool(t, t.TempDir(), 1<<30)
	s.fsync, flushes, failing = policy, new(int), new(error)
	s.flush = func(*os.File) error { *flushes++; return *failing }
	return s, flushes, failing
}

func mustSync(t *testing.T, s *spool) {
	t.Helper()
	if err := s.sync(); err != nil {
		t.Fatal(err)
	}
}

func TestFsyncPolicies(t *testing.T) {
	want := func(what string, got *int, n int) {
		t.Helper()
		if *got != n {
			t.Errorf("%s: %d flushes, want %d", what, *got, n)
		}
	}
	s, flushes, _ := countFlushes(t, FsyncAlways)
	mustAppend(t, s, numbered(0), numbered(1), numbered(2))
	want("always, three batches", flushes, 3)
	mustSync(t, s)
	want("always, at a tick", flushes, 3)

	s, flushes, _ = countFlushes(t, Fsync(time.Hour))
	mustSync(t, s)
	mustAppend(t, s, numbered(0), numbered(1), numbered(2))
	want("interval, three batches", flushes, 0)
	mustSync(t, s)
	mustSync(t, s)
	want("interval, two ticks", flushes, 1)
	mustAppend(t, s, numbered(3))
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	want("interval, at the end", flushes, 2)

	s, flushes, _ = countFlushes(t, Fsync(time.Hour))
	big := batch{data: make([]byte, segmentBytesMax), events: 1}
	mustAppend(t, s, big, big)
	want("interval, at the end of a segment", flushes, 1)

	s, flushes, _ = countFlushes(t, FsyncNever)
	mustAppend(t, s, numbered(0))
	mustSync(t, s)
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	want("never", flushes, 0)
}

// A disk that does not flush costs a batch with FsyncAlways; with an interval it is
// told of, and the batch is there as long as the machine is.
func TestFailedFlush(t *testing.T) {
	broken := errors.New("input/output error")
	s, _, failing := countFlushes(t, FsyncAlways)
	*failing = broken
	if err := s.append(numbered(0)); !errors.Is(err, broken) {
		t.Errorf("always: the error is %v", err)
	}
	if got, _ := takeAll(t, s); len(got) != 0 {
		t.Errorf("always: %d batches are there", len(got))
	}
	s, _, failing = countFlushes(t, Fsync(time.Hour))
	mustAppend(t, s, numbered(0))
	*failing = broken
	if err := s.sync(); !errors.Is(err, broken) {
		t.Errorf("interval: the error is %v", err)
	}
	got, _ := takeAll(t, s)
	requireBatches(t, got, numbered(0))
}

// Run flushes by itself.
func TestIntervalFlushesWhileKafkaIsAway(t *testing.T) {
	cfg := testProducer(t, Config{Brokers: []string{"127.0.0.1:1"}, Topic: "t"}, t.TempDir())
	cfg.SpoolFsync = Fsync(time.Millisecond)
	p := newProducer(t, cfg)
	flushed := make(chan struct{}, 1)
	p.spool.flush = func(f *os.File) error {
		token(flushed)
		return f.Sync()
	}
	run(t, p.Run)
	p.Emit("acme", []byte("x"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	select {
	case <-flushed:
	case <-ctx.Done():
		t.Fatal("the spool was not flushed")
	}
}

func TestFsyncFlag(t *testing.T) {
	for text, want := range map[string]Fsync{"always": FsyncAlways, "never": FsyncNever, "1ms": Fsync(time.Millisecond), "2s": Fsync(2 * time.Second)} {
		f := Fsync(7)
		if err := f.Set(text); err != nil || f != want || f.String() != text {
			t.Errorf("%q is read as %d (%s), error %v", text, f, f.String(), err)
		}
	}
	for _, text := range []string{"", "sometimes", "0", "-1s", "999us", "200"} {
		f := FsyncNever
		if err := f.Set(text); err == nil || f != FsyncNever {
			t.Errorf("%q is read as %s, error %v", text, f.String(), err)
		}
	}
	if got := new(Fsync).String(); got != "always" {
		t.Errorf("the default is %q", got)
	}
}
