package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The story: an idle partition cost four empty answers a second, because a fetch
// was thought to hold up a stop, a rebalance or a batch that is due. Here the
// broker answers no fetch at all until the end: whatever ends the wait, it is not
// the broker.
func TestAnIdleFetchEndsWithItsContext(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(1)
	produce(t, cfg, 0, time.Now(), "a", "b")
	conns := &openConns{conns: map[net.Conn]struct{}{}}
	client := newClient(cfg)
	client.Transport.(*kafka.Transport).Dial = conns.dial
	p := &partition{group: NewGroup(testGroup(t, cfg, "g")), client: client, reader: mustReader(t, cfg)}
	p.SeekTo(2)

	const fetchKey = 1
	hold, asked := make(chan struct{}), make(chan struct{})
	b.control(fetchKey, func(c *kfake.Cluster, _ kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		select {
		case <-hold:
			return nil, nil, false
		case asked <- struct{}{}:
		}
		c.SleepControl(func() { <-hold })
		return nil, nil, false
	})
	f := func(name string, want error, ended func(context.Context) (context.Context, context.CancelFunc)) {
		t.Helper()
		ctx, cancel := ended(testContext(t))
		defer cancel()
		done := make(chan error, 1)
		go func() {
			_, err := fetchRecords(ctx, p)
			done <- err
		}()
		select {
		case <-asked:
		case err := <-done:
			t.Fatalf("%s: Fetch returned %v before it asked", name, err)
		}
		if errors.Is(want, context.Canceled) {
			cancel()
		}
		if err := <-done; !errors.Is(err, want) {
			t.Errorf("%s: Fetch returned %v, want %v", name, err, want)
		}
	}
	f("a stop or a rebalance", context.Canceled, context.WithCancel)
	f("a batch that is due", context.DeadlineExceeded, func(ctx context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, time.Second)
	})
	close(hold)

	// Answers that nobody waited for must not be taken for those of later requests.
	p.SeekTo(0)
	records, err := fetchRecords(testContext(t), p)
	if err != nil || len(records) != 2 || string(records[0].Value) != "a" {
		t.Errorf("after the broken off fetches: %v, %v, want a and b", records, err)
	}
	if first, next, err := p.Bounds(testContext(t)); err != nil || first != 0 || next != 2 {
		t.Errorf("after the broken off fetches: %d, %d, %v, want 0 and 2", first, next, err)
	}
	closeClient(client)
	eventually(t, "every connection is closed", func() error {
		conns.mu.Lock()
		defer conns.mu.Unlock()
		if n := len(conns.conns); n > 0 {
			return fmt.Errorf("%d are open", n)
		}
		return nil
	})
}

// kafka-go asks a broker to wait for half of the time that is left until a
// deadline, and then for half of the rest: a dozen requests for nothing.
func TestADeadlineDoesNotMultiplyIdleFetches(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(1)
	const fetchKey = 1
	waits := make(chan int32, 100)
	b.control(fetchKey, func(c *kfake.Cluster, r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		waits <- r.(*kmsg.FetchRequest).MaxWaitMillis
		return nil, nil, false
	})
	client := newClient(cfg)
	defer closeClient(client)
	for tries := 0; len(waits) == 0; tries++ { // the deadline passes before the broker is asked where the machine stands still
		if tries == 5 {
			t.Fatal("the broker is not asked")
		}
		p := &partition{group: NewGroup(testGroup(t, cfg, "g")), client: client, reader: mustReader(t, cfg)}
		p.SeekTo(0)
		ctx, cancel := context.WithTimeout(testContext(t), 500*time.Millisecond)
		defer cancel()
		if records, err := fetchRecords(ctx, p); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Fetch of an empty partition: %v, %v", records, err)
		}
	}
	if n, wait := len(waits), <-waits; n != 1 || wait != int32(fetchWait.Milliseconds()) {
		t.Errorf("%d fetches, the first of them for %d ms, want one for %s", n, wait, fetchWait)
	}
}
