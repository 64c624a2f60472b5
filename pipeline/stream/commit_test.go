package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const offsetCommitKey = 8

// A broker held a commit for longer than the client waited. The client sent it again
// on another connection and went on; then the broker carried out the first one, and the
// group stood at a block that others had followed.
func TestALateCommitDoesNotUndoLaterOnes(t *testing.T) {
	b := startOwnBroker(t)
	cfg := testGroup(t, b.topic(1), unique("g"))
	produce(t, cfg.Config, 0, time.Now(), "a", "b", "c")
	held, release, late := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	b.control(offsetCommitKey, func(c *kfake.Cluster, _ kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if first.CompareAndSwap(false, true) {
			close(held)
			c.SleepControl(func() { <-release })
			close(late)
		}
		return nil, nil, false // and now it is carried out
	})
	settled := make(chan struct{})
	group := run(t, func(ctx context.Context) error {
		return NewGroup(cfg).Run(ctx, func(ctx context.Context, p Partition) error {
			for offset := int64(1); offset <= 3; offset++ {
				if err := p.Commit(ctx, offset, fmt.Sprint("up to ", offset)); err != nil {
					return err
				}
			}
			close(settled)
			<-ctx.Done()
			return nil
		})
	})
	<-held
	select {
	case <-settled:
	case <-time.After(time.Minute):
		t.Fatal("the commits did not go on")
	}
	close(release)
	<-late
	client := newClient(cfg.Config)
	defer closeClient(client)
	// Whatever the broker does next comes after the late one: it handles one at a time.
	for range 10 {
		answer, err := client.OffsetFetch(testContext(t), &kafka.OffsetFetchRequest{GroupID: cfg.GroupID, Topics: map[string][]int{cfg.Topic: {0}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := answer.Topics[cfg.Topic][0]; got.CommittedOffset != 3 {
			t.Fatalf("the group is at offset %d, %q, want 3", got.CommittedOffset, got.Metadata)
		}
	}
	group.stop(t)
}

// A rebalance interrupts commits. If each of them made its member leave, every rebalance
// would bring about the next one.
func TestMemberStaysAfterARebalanceInterruptedItsCommit(t *testing.T) {
	b := startOwnBroker(t)
	cfg := testGroup(t, b.topic(2), unique("g"))
	held, release := make(chan struct{}), make(chan struct{})
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	var hold atomic.Bool
	b.control(offsetCommitKey, func(c *kfake.Cluster, _ kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if hold.CompareAndSwap(true, false) {
			close(held)
			c.SleepControl(func() { <-release })
		}
		return nil, nil, false
	})
	type term struct {
		member     string
		generation int
	}
	terms := make(chan term, 100)
	hold.Store(true)
	first := run(t, func(ctx context.Context) error {
		return NewGroup(cfg).Run(ctx, func(ctx context.Context, p Partition) error {
			held := p.(*partition).tenure
			terms <- term{held.member, held.generation}
			if err := p.Commit(ctx, 0, "first"); err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		})
	})
	<-held
	before := <-terms
	second := run(t, func(ctx context.Context) error {
		return NewGroup(cfg).Run(ctx, func(ctx context.Context, _ Partition) error {
			<-ctx.Done()
			return nil
		})
	})
	after := <-terms
	for after.generation == before.generation {
		after = <-terms
	}
	if after.member != before.member {
		t.Errorf("the member is %s and was %s: it left in between", after.member, before.member)
	}
	first.stop(t)
	second.stop(t)
}

func TestWasSent(t *testing.T) {
	f := func(err error, want bool) {
		t.Helper()
		if got := wasSent(err); got != want {
			t.Errorf("wasSent(%v) = %t, want %t", err, got, want)
		}
	}
	f(nil, false)
	f(fmt.Errorf("find the coordinator: %w", kafka.GroupCoordinatorNotAvailable), false)
	f(fmt.Errorf("connect: %w", &net.OpError{Op: "dial", Err: errors.New("connection refused")}), false)
	f(&net.OpError{Op: "read", Err: errors.New("connection reset")}, true)
	f(context.DeadlineExceeded, true)
	f(errors.New("anything else"), true)
}
