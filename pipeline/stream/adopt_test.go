package stream

import (
	"fmt"
	"path/filepath"
	"testing"
)

// spooled leaves n events in the spool of a producer that has ended without Kafka.
func spooled(t *testing.T, cfg Config, dir string, from, n int) {
	t.Helper()
	p := newProducer(t, testProducer(t, cfg, dir))
	producer := run(t, p.Run)
	for i := range n {
		p.Emit("acme", fmt.Appendf(nil, "%d", from+i))
	}
	producer.stop(t)
	if stats := p.Stats(); stats.EventsSpooled != uint64(n) {
		t.Fatalf("stats without Kafka: %+v", stats)
	}
}

// After a take-over the old router spools beside the new one. When it has ended, the
// new one sends what is left, and leaves alone what belongs to a process that lives.
func TestSpoolOfAnEndedProcessIsSent(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(2)
	dir := t.TempDir()
	own, ended, living := dir, filepath.Join(dir, "2"), filepath.Join(dir, "3")
	s := consume(t, cfg)
	b.stop()
	const n = 500
	spooled(t, cfg, own, 0, n)
	spooled(t, cfg, ended, n, n)
	spooled(t, cfg, living, 2*n, n)
	neighbour := mustOpenSpool(t, living, 1<<30)

	config := testProducer(t, cfg, own)
	config.SpoolOthers = []string{ended, living, filepath.Join(dir, "never-made")}
	p := newProducer(t, config)
	producer := run(t, p.Run)
	b.start()
	s.requireEach(t, 2*n, p)
	eventually(t, "what was sent is gone", func() error {
		left, err := filepath.Glob(filepath.Join(ended, "*"+segmentSuffix))
		if stats := p.Stats(); err == nil && (len(left) > 0 || stats.SpoolBytes != 0 || stats.EventsOut != 2*n) {
			return fmt.Errorf("%v, %+v", left, stats)
		}
		return err
	})
	if neighbour.size() == 0 {
		t.Error("the spool of a process that lives is empty")
	}
	producer.stop(t)
	if err := neighbour.close(); err != nil {
		t.Fatal(err)
	}
	p = newProducer(t, config)
	run(t, p.Run)
	s.requireEach(t, 3*n, p)
}

// A process that starts in a folder that is just being adopted waits for it.
func TestAnAdoptedSpoolIsWaitedFor(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.topic(1)
		dir := t.TempDir()
		adopter, err := openSpool(dir, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		config := testProducer(t, cfg, dir)
		if p, err := NewProducer(config); err == nil {
			_ = p.spool.close()
			t.Error("two processes have one folder")
		}
		config.SpoolOthers = []string{filepath.Join(dir, "2")}
		opened := make(chan error, 1)
		go func() {
			p, err := NewProducer(config)
			if err == nil {
				err = p.spool.close()
			}
			opened <- err
		}()
		if err := adopter.close(); err != nil {
			t.Fatal(err)
		}
		if err := <-opened; err != nil {
			t.Error(err)
		}
	})
}
