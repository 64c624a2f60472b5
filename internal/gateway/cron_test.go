package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tidegate/internal/deploy"
)

// scheduler is a runtime and a control plane for schedules.
type scheduler struct {
	instantBackend
	mu      sync.Mutex
	ran     []string
	claims  map[string]bool
	asked   int
	failing int // claims that fail before one succeeds
	hold    chan struct{}
}

func (s *scheduler) Changed() <-chan struct{}            { return nil }
func (s *scheduler) Caller(string) (deploy.Caller, bool) { return deploy.Caller{}, false }

func (s *scheduler) Scheduled(ctx context.Context, versionID, cron string, at time.Time) (string, error) {
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ran = append(s.ran, fmt.Sprintf("%c %s %s", versionID[0], cron, at.UTC().Format("15:04")))
	return "ok", nil
}

func (s *scheduler) ClaimCron(_ context.Context, accountID, script, cron string, at time.Time) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.failing > 0 {
		s.failing--
		return false, errors.New("away")
	}
	if s.claims == nil {
		s.claims = map[string]bool{}
	}
	key := fmt.Sprint(accountID, script, cron, at.Unix())
	first := !s.claims[key]
	s.claims[key] = true
	return first, nil
}

// scheduled is a gateway whose script has schedules and the versions a, b.
func scheduled(t *testing.T, s *scheduler, crons ...string) *Gateway {
	g, _, _ := joining(t)
	g.deps.Workers, g.deps.Claims = s, s
	next := *g.latest
	next.Scripts = slices.Clone(next.Scripts)
	next.Revision++
	sc := &next.Scripts[0]
	sc.Crons = crons
	sc.Versions = slices.Clone(sc.Versions)
	for i := range sc.Versions {
		sc.Versions[i].Worker = &deploy.SnapshotWorker{Exports: deploy.Exports{Handlers: []string{"fetch", "scheduled"}}}
	}
	if err := g.accept(&next); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *Gateway) runMinute(at time.Time) {
	var running sync.WaitGroup
	g.runSchedules(context.Background(), at, &running)
	running.Wait()
}

func wantSchedules(t *testing.T, g *Gateway, result string, n int64) {
	t.Helper()
	if got := g.metrics.schedules[index(scheduleResults, result)].Load(); got != n {
		t.Errorf("%d runs are %s, want %d", got, result, n)
	}
}

// Of two gateways one runs what is due, and nothing else runs.
func TestSchedulesRunOnce(t *testing.T) {
	s := &scheduler{}
	first, second := scheduled(t, s, "5 12 * * *", "*/5 * * * *", "6 12 * * *"), scheduled(t, s, "5 12 * * *", "*/5 * * * *", "6 12 * * *")
	at := time.Date(2026, 3, 1, 12, 5, 0, 0, time.UTC)
	first.runMinute(at)
	second.runMinute(at)
	slices.Sort(s.ran)
	if want := []string{"a */5 * * * * 12:05", "a 5 12 * * * 12:05"}; !slices.Equal(s.ran, want) {
		t.Errorf("ran %q, want %q", s.ran, want)
	}
	wantSchedules(t, first, scheduleRan, 2)
	wantSchedules(t, second, scheduleElsewhere, 2)
}

func TestSchedulesThatCannotRun(t *testing.T) {
	s := &scheduler{}
	g := scheduled(t, s, "* * * * *", "no cron")
	for _, v := range g.table.Load().versions {
		v.version.Worker.Exports.Handlers = []string{"fetch"}
	}
	g.runMinute(testReceived)
	wantSchedules(t, g, scheduleNoHandler, 1)
	if len(s.ran) != 0 {
		t.Errorf("ran %q", s.ran)
	}
}

// Handlers that do not end cannot pile up without end.
func TestSchedulesAreBounded(t *testing.T) {
	s := &scheduler{hold: make(chan struct{})}
	g := scheduled(t, s, "* * * * *")
	var running sync.WaitGroup
	for i := range scheduledMax + 5 {
		g.runSchedules(t.Context(), testReceived.Add(time.Duration(i)*time.Minute), &running)
	}
	wantSchedules(t, g, scheduleTooMany, 5)
	close(s.hold)
	running.Wait()
	wantSchedules(t, g, scheduleRan, scheduledMax)
}

// A control plane that is away for some seconds costs no run, one that stays away
// costs it.
func TestClaimsAreRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scheduler{failing: 3}
		g := scheduled(t, s, "* * * * *")
		g.runMinute(testReceived)
		wantSchedules(t, g, scheduleRan, 1)
		s.failing = 1 << 30
		begun := time.Now()
		g.runMinute(testReceived.Add(time.Minute))
		wantSchedules(t, g, scheduleUnclaimed, 1)
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("gave up after %s", took)
		}
	})
}

// The loop wakes once a minute, at its begin.
func TestSchedulesEveryMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scheduler{}
		g := scheduled(t, s, "* * * * *")
		ctx, cancel := context.WithCancel(t.Context())
		var loop sync.WaitGroup
		loop.Go(func() { g.keepSchedules(ctx, time.Now) })
		time.Sleep(3*time.Minute + 30*time.Second) // of the bubble's clock, which begins at midnight
		cancel()
		loop.Wait()
		if want := []string{"a * * * * * 00:01", "a * * * * * 00:02", "a * * * * * 00:03"}; !slices.Equal(s.ran, want) {
			t.Errorf("ran %q, want %q", s.ran, want)
		}
	})
}

// A clock that was set back, or had been ahead, stopped all schedules for as long as it had been off: the loop slept
// until the minute that had been the next one, and then waited for one later than any that it had seen.
func TestSchedulesGoOnWhenTheClockIsSet(t *testing.T) {
	f := func(name string, off time.Duration, want ...string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			s := &scheduler{}
			g := scheduled(t, s, "* * * * *")
			g.deps.Claims = nil // which forgets what was hours ago
			ctx, cancel := context.WithCancel(t.Context())
			var ahead atomic.Int64
			var loop sync.WaitGroup
			loop.Go(func() {
				g.keepSchedules(ctx, func() time.Time { return time.Now().Round(0).Add(time.Duration(ahead.Load())) })
			})
			time.Sleep(2*time.Hour + 90*time.Second)
			ahead.Store(int64(off)) // at 02:01:30
			time.Sleep(2 * time.Minute)
			ahead.Store(0) // at 02:03:30
			time.Sleep(2*time.Hour + 2*time.Minute)
			cancel()
			loop.Wait()
			slices.Sort(s.ran)
			if once := slices.Compact(slices.Clone(s.ran)); len(once) != len(s.ran) {
				t.Errorf("%s: a minute was run twice: %q", name, s.ran)
			}
			ran := map[string]bool{}
			for _, run := range s.ran {
				ran[run[len(run)-len("00:00"):]] = true
			}
			var missing []string
			for minute := 1; minute <= 4*60+5; minute++ {
				if at := fmt.Sprintf("%02d:%02d", minute/60, minute%60); !ran[at] {
					missing = append(missing, at)
				}
			}
			if !slices.Equal(missing, want) {
				t.Errorf("%s: nothing ran at %q, want %q", name, missing, want)
			}
		})
	}
	f("an hour ahead", time.Hour, "02:02", "02:03")
	f("an hour behind", -time.Hour, "02:02", "02:03")
	f("two hours behind", -2*time.Hour, "02:02", "02:03")
	f("40 seconds behind", -40*time.Second)
}
