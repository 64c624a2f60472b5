package logpush

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tidegate/internal/logjob"
)

// watched runs f on a health that writes, in fake time. Last is what was written
// last; its text is "" after a success.
func watched(t *testing.T, f func(t *testing.T, h *health, r *reports, last func() string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &reports{}
		h := newHealth(1, r.add, quiet)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { h.Run(ctx) })
		f(t, h, r, func() string {
			list := r.all()
			return list[len(list)-1].Message
		})
		cancel()
		running.Wait()
	})
}

// The story: a destination refused the batches of one partition for ever, for
// what was in them. The other partitions delivered, each success cleared the
// error, and the job looked healthy while a quarter of its events never left.
func TestAPartitionThatFailsIsNotHiddenByOthers(t *testing.T) {
	watched(t, func(t *testing.T, h *health, r *reports, last func() string) {
		h.Failed(2, time.Now(), "refused")
		for range 30 {
			pass(time.Second)
			h.Succeeded(0, time.Now())
			h.Succeeded(1, time.Now())
		}
		for _, d := range r.all() {
			if d.Message != "refused" {
				t.Fatalf("while partition 2 fails %+v is written", d)
			}
		}
		if n := len(r.all()); n < 2 || n > 6 {
			t.Errorf("the failure is written %d times in 30 s, want now and then", n)
		}

		h.Failed(3, time.Now(), "refused as well")
		pass(2 * time.Second)
		if last() != "refused as well" {
			t.Errorf("the health is %q, want the latest failure", last())
		}
		h.Succeeded(3, time.Now())
		pass(2 * time.Second)
		if last() != "refused" {
			t.Errorf("after one of two recovered the health is %q, want the other's failure", last())
		}
		until := time.Now()
		h.Succeeded(2, until.Add(-time.Hour)) // it has to catch up
		pass(2 * time.Second)
		list := r.all()
		if d := list[len(list)-1]; d.Message != "" || d.CompleteUntil.Before(until.Add(-time.Minute)) {
			t.Errorf("after all recovered the health is %+v", d)
		}
		before := len(r.all())
		pass(time.Minute)
		if n := len(r.all()); n != before {
			t.Errorf("%d writes though nothing happened", n-before)
		}
	})
}

func TestAFailureLeavesWithItsPartition(t *testing.T) {
	watched(t, func(t *testing.T, h *health, _ *reports, last func() string) {
		h.Failed(2, time.Now(), "refused")
		pass(2 * time.Second)
		h.Gone(2)
		h.Succeeded(0, time.Now())
		pass(2 * time.Second)
		if last() != "" {
			t.Errorf("the health is %q after the failing partition went elsewhere", last())
		}
	})
}

// One event of a gateway whose clock was years ahead, or of another account's, made last_complete a time that was years
// ahead. It never goes back, so nobody could tell any more how far the job had come.
func TestAClockThatIsAheadHidesNotHowFarAJobHasCome(t *testing.T) {
	watched(t, func(t *testing.T, h *health, r *reports, _ func() string) {
		h.Succeeded(0, time.Now().AddDate(30, 0, 0))
		pass(2 * time.Second)
		list := r.all()
		if d := list[len(list)-1]; d.CompleteUntil.IsZero() || d.CompleteUntil.After(time.Now()) {
			t.Errorf("at %s the job is complete until %s", time.Now(), d.CompleteUntil)
		}
	})
}

func TestALossIsToldUntilTheNextSuccess(t *testing.T) {
	watched(t, func(t *testing.T, h *health, _ *reports, last func() string) {
		h.Succeeded(0, time.Now())
		h.Lost(time.Now(), "lost")
		pass(2 * time.Second)
		if last() != "lost" {
			t.Errorf("the health is %q, want the loss", last())
		}
		h.Succeeded(0, time.Now())
		pass(2 * time.Second)
		if last() != "" {
			t.Errorf("the health is %q after a success", last())
		}
	})
}

func TestARefusedPartitionKeepsItsJobUnhealthy(t *testing.T) {
	p := newPlatform(t)
	_, b := p.addJob(1)
	b.set(func(o Object) error {
		if strings.HasPrefix(o.BatchID, "1-1-") {
			return &UploadError{Status: 403, Text: "not this", Permanent: true}
		}
		return nil
	})
	p.manage()
	p.produce(200)
	health := func() (last logjob.Delivery) {
		if list := p.reports.all(); len(list) > 0 {
			last = list[len(list)-1]
		}
		return last
	}
	failed := func() error {
		if d := health(); d.Message == "" {
			return fmt.Errorf("the health is %+v", d)
		}
		return nil
	}
	eventually(t, failed)
	before := len(b.names())
	for range 3 {
		p.produce(100)
		eventually(t, func() error {
			if n := len(b.names()); n <= before {
				return errors.New("the other partition delivers nothing")
			}
			return nil
		})
		before = len(b.names())
		if err := failed(); err != nil {
			t.Error(err)
		}
	}
	b.set(nil)
	holds(t, b, 0, 500)
	eventually(t, func() error {
		if d := health(); d.Message != "" || d.CompleteUntil.IsZero() {
			return fmt.Errorf("after the recovery the health is %+v", d)
		}
		return nil
	})
}

// A job that failed when its process was restarted, and was well at once, was never said to go on.
func TestARecoveryOverARestartIsTold(t *testing.T) {
	f := func(name string, want []string, answers ...[3]bool) { // due, fails elsewhere, not to be had
		t.Helper()
		bubble(t, func(t *testing.T, w *world) {
			var alerts []string
			h := newHealth(42, w.reports.add, quiet)
			h.alert = func(kind, _ string) { alerts = append(alerts, kind) }
			asked := 0
			h.recoveryDue = func(context.Context) (due, fails bool, err error) {
				a := answers[min(asked, len(answers)-1)]
				if asked++; a[2] {
					err = errors.New("the database is away")
				}
				return a[0], a[1], err
			}
			ctx, stop := context.WithCancel(t.Context())
			go h.Run(ctx)
			pass(time.Minute)
			if asked != 0 {
				t.Errorf("%s: it was asked before there was a success", name)
			}
			h.Succeeded(3, time.Now())
			pass(2 * time.Minute)
			stop()
			pass(time.Minute)
			if !slices.Equal(alerts, want) || asked != len(answers) {
				t.Errorf("%s: told %v after %d questions, want %v after %d", name, alerts, asked, want, len(answers))
			}
		})
	}
	f("nothing was told", nil, [3]bool{false, false})
	f("a failure was told", []string{AlertRecovered}, [3]bool{true, false})
	f("it fails elsewhere for a while", []string{AlertRecovered}, [3]bool{true, true}, [3]bool{true, true}, [3]bool{true, false})
	f("the database is away for a while", []string{AlertRecovered}, [3]bool{false, false, true}, [3]bool{true, false})
}

// The end of a failure of its own a process tells by itself, once, and asks nobody: the alert of the failure may
// have come from it.
func TestARecoveryOfItsOwnIsToldOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var alerts []string
		h := newHealth(42, w.reports.add, quiet)
		h.alert = func(kind, _ string) { alerts = append(alerts, kind) }
		h.recoveryDue = func(context.Context) (due, fails bool, err error) {
			t.Error("it was asked")
			return true, false, nil
		}
		ctx, stop := context.WithCancel(t.Context())
		go h.Run(ctx)
		h.Failed(3, time.Now(), "away")
		pass(time.Minute)
		h.Succeeded(3, time.Now())
		pass(time.Minute)
		stop()
		pass(time.Minute)
		if want := []string{AlertFailing, AlertRecovered}; !slices.Equal(alerts, want) {
			t.Errorf("told %v, want %v", alerts, want)
		}
	})
}
