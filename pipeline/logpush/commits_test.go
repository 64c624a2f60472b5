package logpush

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tidegate/pipeline/stream"
)

// slowGroup is a partition whose group takes a second for each commit.
type slowGroup struct {
	stream.Partition
	mu     sync.Mutex
	marks  []string
	refuse error
}

func (*slowGroup) ID() int { return 3 }

func (g *slowGroup) Commit(ctx context.Context, _ int64, metadata string) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second):
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refuse == nil {
		g.marks = append(g.marks, metadata)
	}
	return g.refuse
}

func TestAMarkThatWaitsIsReplacedByTheNextOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stored []int64
		group := &slowGroup{}
		c := newCommits(group, func(offset int64) { stored = append(stored, offset) })
		c.tenure = t.Context()
		c.begin(1, "a")
		synctest.Wait()
		b := c.begin(2, "b")
		c.begin(3, "c")
		if err := b.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := []string{"a", "c"}; !slices.Equal(group.marks, want) {
			t.Errorf("stored were %v, want %v", group.marks, want)
		}
		if err := c.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.begin(4, "d")
		if err := c.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := []int64{1, 3, 4}; !slices.Equal(stored, want) {
			t.Errorf("told were %v, want %v", stored, want)
		}
	})
}

// After a commit that failed nobody knows what the group has: a later one must not
// follow it.
func TestNothingIsStoredAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := &slowGroup{refuse: stream.ErrFenced}
		c := newCommits(group, func(int64) { t.Error("it was not stored") })
		c.tenure = t.Context()
		first := c.begin(1, "a")
		<-c.broken
		if err := first.wait(t.Context()); !errors.Is(err, stream.ErrFenced) {
			t.Errorf("the first one ended with %v", err)
		}
		group.refuse = nil
		if err := c.begin(2, "b").wait(t.Context()); !errors.Is(err, stream.ErrFenced) || len(group.marks) > 0 {
			t.Errorf("the next one ended with %v, and stored are %v", err, group.marks)
		}
	})
}

// The story: a delivery waited for each commit, two for each window, while its disk was
// busy, and read nothing meanwhile. Now it builds the next windows; but none of them is
// sent before its plan is stored, or what is sent twice would have two names.
func TestWindowsAreBuiltWhileTheirPlansAreStored(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ten := int64(10)
		w.job.MaxUploadRecords = &ten
		w.parallel = 4
		w.memory.ok = true
		w.memory.metadata = mark{EnabledAt: w.job.EnabledAt.UnixMicro()}.String()
		stored := make(chan struct{})
		w.memory.storing = func() { <-stored }
		r := w.start()
		w.memory.add(fill(25)...)
		pass(0)
		w.expect(t, "", 0)
		if next := w.memory.asked(); next < 21 {
			t.Errorf("it has read up to offset %d while a plan was being stored, want 21 at least", next)
		}
		// Windows that are sent side by side land in any order.
		expect := func(want string, objects int) {
			t.Helper()
			sent := strings.SplitAfter(w.bucket.text(t), "\n")
			slices.SortFunc(sent, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
			if got := strings.Join(sent, ""); got != want || len(w.bucket.names()) != objects {
				t.Errorf("delivered in %d objects\n%s\nwant in %d\n%s", len(w.bucket.names()), got, objects, want)
			}
		}
		close(stored)
		pass(0)
		expect(lines(0, 20), 2)
		r.stop()
		expect(lines(0, 25), 3)
		if w.memory.offset() != 25 {
			t.Errorf("committed %d, want 25", w.memory.offset())
		}
	})
}
