package rollback

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// story is something that happens to a script while a controller watches it.
type story struct {
	name    string
	policy  deploy.RollbackPolicy
	prepare func(w *world)
	// during runs before each step, with the time since the start.
	during func(w *world, since time.Duration)
	lasts  time.Duration
	every  time.Duration // between two steps; zero is 4 s: fewer calls to disturb, and the same stories
}

func stories() []story {
	quick := []deploy.RampStep{{Percentage: 10_000, BakeSeconds: 15}, {Percentage: 50_000, BakeSeconds: 5}, {Percentage: deploy.Full}}
	bad := func(w *world) { w.fails(v2, 0.1); w.deploy(split{v1: 90, v2: 10}) }
	return []story{
		{name: "a bad version", policy: policy(deploy.ActionRollback), prepare: bad, lasts: 40 * time.Second},
		{name: "a bad version that replaced the good one", policy: policy(deploy.ActionRollback), prepare: func(w *world) {
			w.fails(v2, 0.1)
			w.deploy(split{v2: 100})
		}, lasts: 40 * time.Second},
		{name: "a bad version, notify", policy: policy(deploy.ActionNotify), prepare: bad, lasts: 40 * time.Second},
		{name: "a bad version, pause", policy: policy(deploy.ActionPause, quick...), prepare: bad, lasts: 40 * time.Second},
		{name: "nothing better to go back to", policy: policy(deploy.ActionRollback), prepare: func(w *world) {
			w.fails(v1, 0.2)
			bad(w)
		}, lasts: 40 * time.Second},
		{name: "a good version with a ramp", policy: policy(deploy.ActionRollback, quick...), prepare: func(w *world) {
			w.deploy(split{v1: 94, v2: 6})
		}, lasts: 80 * time.Second},
		{name: "a version that turns bad in its ramp", policy: policy(deploy.ActionRollback, quick...), prepare: func(w *world) {
			w.deploy(split{v1: 90, v2: 10})
		}, during: func(w *world, since time.Duration) {
			if w.deployments[0].Versions[0].Percentage == 50_000 {
				w.fails(v2, 0.5)
			}
		}, lasts: 80 * time.Second},
		{name: "an outage of the rates", policy: policy(deploy.ActionRollback), prepare: bad, during: func(w *world, since time.Duration) {
			w.ratesDown = since < 20*time.Second
		}, lasts: 60 * time.Second},
		// What a controller that takes over has to read again is settled by then.
		{name: "a version that turns bad after five minutes", policy: policy(deploy.ActionRollback), prepare: func(w *world) {
			w.deploy(split{v1: 90, v2: 10})
		}, during: func(w *world, since time.Duration) {
			if since == 5*time.Minute {
				w.fails(v2, 0.5)
			}
		}, lasts: 6 * time.Minute, every: 15 * time.Second},
	}
}

// process disturbs the calls of one controller.
type process struct {
	calls int
	// before and after run around each call, with its number from 1 on; an error is
	// what the controller gets, before it without the effect, after it with it.
	before, after func(call int) error
}

func (p *process) around(do func() error) error {
	p.calls++
	call := p.calls
	if err := p.before(call); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return p.after(call)
}

func (p *process) fakes(w *world, holder string) *fakes {
	f := w.fakes(holder)
	in := *f
	f.rates = func(ctx context.Context, account, script string, since, until time.Time) (rows []schema.RateBlock, err error) {
		err = p.around(func() error { rows, err = in.rates(ctx, account, script, since, until); return err })
		return rows, err
	}
	f.watched = func(ctx context.Context) (watched []deploy.Watched, err error) {
		err = p.around(func() error { watched, err = in.watched(ctx); return err })
		return watched, err
	}
	f.apply = func(ctx context.Context, account, script, ifCurrent string, d *deploy.Deployment, ramp *deploy.Ramp, decision *deploy.RollbackDecision) error {
		return p.around(func() error { return in.apply(ctx, account, script, ifCurrent, d, ramp, decision) })
	}
	f.acquire = func(ctx context.Context, name, holder string, ttl time.Duration) (held bool, err error) {
		err = p.around(func() error { held, err = in.acquire(ctx, name, holder, ttl); return err })
		return held, err
	}
	return f
}

func nothing(int) error { return nil }

// play runs a story and returns the end state and the number of calls. When the
// controller has died, another one follows, which has to wait for the lease; a nil
// died is a controller that lives for ever.
func play(t *testing.T, s story, p *process, died *bool) (*world, int) {
	t.Helper()
	clk := newClock()
	w := newWorld(t, clk.now, s.policy)
	s.prepare(w)
	c := w.controller("first", p.fakes(w, "first"))
	every := max(s.every, 4*time.Second)
	for end := clk.Add(s.lasts); clk.Before(end); clk.advance(every) {
		if s.during != nil {
			s.during(w, clk.Sub(epoch))
		}
		// Errors are what these tests are about: only the end state counts.
		_ = c.Step(t.Context())
		if died != nil && *died && c.Holder == "first" {
			c = w.controller("second", w.fakes("second"))
		}
	}
	w.checkChain()
	return w, p.calls
}

// forEachCall plays each story undisturbed, and then calls f for each of its calls.
func forEachCall(t *testing.T, f func(t *testing.T, s story, n int, undisturbed summary)) {
	for _, s := range stories() {
		t.Run(strings.ReplaceAll(s.name, " ", "_"), func(t *testing.T) {
			w, calls := play(t, s, &process{before: nothing, after: nothing}, nil)
			want := w.summary()
			if len(want.Decisions) == 0 {
				t.Fatalf("nothing happens in the story: %+v", want)
			}
			for n := 1; n <= calls; n++ {
				f(t, s, n, want)
			}
		})
	}
}

// A controller that is killed at any call, before or after the call had its
// effect, leaves a state from which the next one comes to the same end.
func TestKilledAtAnyCallItComesToTheSameEnd(t *testing.T) {
	forEachCall(t, func(t *testing.T, s story, n int, want summary) {
		for _, effect := range []bool{false, true} {
			died := false
			check := func(dies bool) func(int) error {
				return func(call int) error {
					died = died || (dies && call == n)
					if died {
						return errors.New("killed")
					}
					return nil
				}
			}
			w, _ := play(t, s, &process{before: check(!effect), after: check(effect)}, &died)
			if diff := cmp.Diff(want, w.summary()); diff != "" {
				t.Fatalf("killed at call %d, with its effect: %v (-want +got):\n%s", n, effect, diff)
			}
		}
	})
}

// A call that fails once, with or without its effect, changes nothing but that a
// failure of the rates may be on record.
func TestFailingOnceAtAnyCallItComesToTheSameEnd(t *testing.T) {
	forEachCall(t, func(t *testing.T, s story, n int, want summary) {
		for _, effect := range []bool{false, true} {
			fail := func(call int) error {
				if call == n {
					return errors.New("connection reset")
				}
				return nil
			}
			p := &process{before: fail, after: nothing}
			if effect {
				p = &process{before: nothing, after: fail}
			}
			w, _ := play(t, s, p, nil)
			got := w.summary()
			isError := func(decision string) bool { return decision == "error " }
			got.Decisions = slices.DeleteFunc(got.Decisions, isError)
			want.Decisions = slices.DeleteFunc(slices.Clone(want.Decisions), isError)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("call %d failed, with its effect: %v (-want +got):\n%s", n, effect, diff)
			}
		}
	})
}

// A person who deploys at any moment of a step wins: what was judged before is
// not applied to the new deployment, and the script ends as they left it.
func TestPersonInTheMiddleWins(t *testing.T) {
	forEachCall(t, func(t *testing.T, s story, n int, _ summary) {
		var w *world
		prepare := s.prepare
		s.prepare = func(created *world) { w = created; prepare(created) }
		play(t, s, &process{after: nothing, before: func(call int) error {
			if call == n {
				w.deploy(split{v3: 100})
			}
			return nil
		}}, nil)
		got := w.summary()
		if last := got.Deployments[len(got.Deployments)-1]; last != "v3 100% by a person" {
			t.Fatalf("deployed by hand before call %d, ended at %q: %q", n, last, got.Deployments)
		}
		if w.ramp != nil && w.ramp.State == deploy.RampRunning {
			t.Fatalf("deployed by hand before call %d, the ramp still runs", n)
		}
	})
}

// Even when the lease is given to both, as after a long pause of one of them, a
// failure leads to one deployment and one decision.
func TestTwoControllersWithoutALeaseActOnce(t *testing.T) {
	clk := newClock()
	for range 50 {
		w := newWorld(t, clk.now, policy(deploy.ActionRollback))
		w.fails(v2, 0.1)
		w.deploy(split{v1: 90, v2: 10})
		clk.advance(20 * time.Second)
		var wg sync.WaitGroup
		for _, holder := range []string{"a", "b"} {
			f := w.fakes(holder)
			f.acquire = func(context.Context, string, string, time.Duration) (bool, error) { return true, nil }
			c := w.controller(holder, f)
			wg.Go(func() {
				for range 3 {
					if err := c.Step(t.Context()); err != nil {
						t.Errorf("%s: %v", holder, err)
					}
				}
			})
		}
		wg.Wait()
		if got := w.summary(); len(got.Deployments) != 3 || !slices.Equal(got.Decisions, []string{"fail rollback"}) {
			t.Fatalf("end state %+v", got)
		}
		clk.advance(time.Hour)
	}
}

func TestStepWithoutTheLeaseReadsNothing(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	w.deploy(split{v1: 90, v2: 10})
	w.acquire(leaseName, "other", time.Hour)
	w.steps(w.controller("a", w.fakes("a")), clk, 10*time.Second)
	if n := w.ratesCalls["a"]; n != 0 {
		t.Errorf("read the rates %d times", n)
	}
	f := w.fakes("a")
	f.acquire = func(context.Context, string, string, time.Duration) (bool, error) {
		return false, errors.New("database is away")
	}
	if err := w.controller("a", f).Step(t.Context()); err == nil {
		t.Error("an error of the lease was not reported")
	}
}

// A script whose rates hang holds up neither the others nor their next step, and is not
// asked about twice.
func TestSlowAnswerDelaysNoOther(t *testing.T) {
	clk := newClock()
	w := newWorld(t, clk.now, policy(deploy.ActionRollback))
	w.fails(v2, 0.1)
	w.deploy(split{v1: 90, v2: 10})
	clk.advance(40 * time.Second)
	f := w.fakes("a")
	f.watched = func(ctx context.Context) ([]deploy.Watched, error) {
		watched, err := w.watched(ctx)
		slow := watched[0]
		slow.Script = "slow"
		return []deploy.Watched{slow, watched[0]}, err
	}
	answer, asked := make(chan struct{}), make(chan struct{}, 10)
	f.rates = func(_ context.Context, _, script string, since, until time.Time) ([]schema.RateBlock, error) {
		if script == "slow" {
			asked <- struct{}{}
			<-answer
			return nil, errors.New("connection refused")
		}
		return w.blocks(since, until)
	}
	c := w.controller("a", f)
	c.patience = 10 * time.Millisecond
	for end := time.Now().Add(time.Minute); len(w.summary().Decisions) == 0 && time.Now().Before(end); {
		if err := c.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	expectSummary(t, w, summary{
		Deployments: []string{"v1 100% by a person", "v1 90% v2 10% by a person", "v1 100% by rollback"},
		Decisions:   []string{"fail rollback"},
	})
	select {
	case <-asked:
	case <-time.After(time.Minute):
		t.Fatal("the slow one was not asked")
	}
	if err := c.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(answer)
	c.judging.Wait()
	if n := len(asked); n != 0 {
		t.Errorf("the slow one was asked %d times more", n)
	}
	if err := c.Step(t.Context()); err == nil || !strings.Contains(err.Error(), "account/slow") {
		t.Errorf("the slow one's error was not told: %v", err)
	}
}

func TestRunHandsOverWhenStoppedAndAfterADeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, time.Now, policy(deploy.ActionRollback))
		w.deploy(split{v1: 90, v2: 10})
		run := func(holder string, f *fakes) (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			c := w.controller(holder, f)
			go func() { ended <- c.Run(ctx) }()
			synctest.Wait() // it has had its first step
			return func() {
				cancel()
				if err := <-ended; err != nil {
					t.Errorf("run of %s: %v", holder, err)
				}
			}
		}
		// counts returns how often each has read the rates since the last call.
		counts := func() string {
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			s := fmt.Sprintf("a %d b %d c %d", w.ratesCalls["a"], w.ratesCalls["b"], w.ratesCalls["c"])
			clear(w.ratesCalls)
			return s
		}
		expect := func(when, want string) {
			t.Helper()
			if got := counts(); got != want {
				t.Errorf("%s: %s, want %s", when, got, want)
			}
		}
		// c, once dead, is away without releasing its lease.
		f := w.fakes("c")
		f.release = func(context.Context, string, string) error { return errors.New("database is away") }

		stopA := run("a", w.fakes("a"))
		stopB := run("b", w.fakes("b"))
		time.Sleep(10*time.Second + stepInterval/2)
		expect("only the holder judges", "a 21 b 0 c 0")
		stopA()
		time.Sleep(stepInterval)
		expect("b takes over at its next step", "a 0 b 1 c 0")
		stopB()
		stopC := run("c", f)
		stopC()
		counts()
		stopB = run("b", w.fakes("b"))
		time.Sleep(leaseTTL - time.Second)
		expect("the lease of a dead controller holds", "a 0 b 0 c 0")
		w.fails(v2, 0.5)
		time.Sleep(5 * time.Second)
		stopB()
		expectSummary(t, w, summary{
			Deployments: []string{"v1 100% by a person", "v1 90% v2 10% by a person", "v1 100% by rollback"},
			Decisions:   []string{"fail rollback"},
		})
	})
}

func TestRunGoesOnAfterErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, time.Now, policy(deploy.ActionRollback))
		w.fails(v2, 0.1)
		w.deploy(split{v1: 90, v2: 10})
		f := w.fakes("a")
		var tries int
		f.apply = func(ctx context.Context, account, script, ifCurrent string, d *deploy.Deployment, ramp *deploy.Ramp, decision *deploy.RollbackDecision) error {
			if tries++; tries < 10 {
				return errors.New("database is locked")
			}
			return w.apply(ctx, account, script, ifCurrent, d, ramp, decision)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := w.controller("a", f).Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
		if got := w.summary().Decisions; !slices.Equal(got, []string{"fail rollback"}) || tries != 10 {
			t.Errorf("decisions %q after %d tries", got, tries)
		}
	})
}

// Scripts that catch up after a restart, and those whose rates could not be read, hold up
// only each other, however many there are.
func TestThoseThatCatchUpOrFailDelayNoOther(t *testing.T) {
	for name, failed := range map[string]bool{"catching up": false, "failed": true} {
		t.Run(name, func(t *testing.T) {
			var passed atomic.Int64 // judgements that hang read the clock while it moves
			w := newWorld(t, func() time.Time { return epoch.Add(time.Duration(passed.Load())) }, policy(deploy.ActionRollback))
			w.deploy(split{v1: 90, v2: 10})
			f := w.fakes("a")
			hang, healthy := make(chan struct{}), make(chan struct{})
			close(hang)
			fakesOfMany(f, 2*judgedAtOnce)
			f.rates = func(_ context.Context, _, script string, since, until time.Time) ([]schema.RateBlock, error) {
				switch {
				case script == "shop":
					return w.blocks(since, until)
				case failed:
					<-hang
					return nil, errors.New("deadline exceeded")
				}
				<-healthy
				return nil, nil
			}
			if failed {
				close(healthy)
			}
			c := w.controller("a", f)
			if failed {
				_ = c.Step(t.Context()) // every one but the shop's fails
				hang = make(chan struct{})
			} else {
				for i := range w.deployments {
					w.deployments[i].CreatedOn = w.deployments[i].CreatedOn.Add(-time.Hour)
				}
			}
			c.patience = 10 * time.Millisecond
			shop := f.watched
			f.watched = func(ctx context.Context) ([]deploy.Watched, error) {
				watched, err := shop(ctx)
				watched[len(watched)-1].PolicySince = epoch // it has nothing to catch up with
				return watched, err
			}
			if err := c.Step(t.Context()); err != nil { // those that hang have what slots they get
				t.Fatal(err)
			}
			w.fails(v2, 0.5)
			passed.Add(int64(30 * time.Second))
			for end := time.Now().Add(time.Minute); len(w.summary().Decisions) == 0 && time.Now().Before(end); {
				if err := c.Step(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if got := w.summary().Decisions; !slices.Equal(got, []string{"fail rollback"}) {
				t.Errorf("decisions %q", got)
			}
			if failed {
				close(hang)
			} else {
				close(healthy)
			}
			c.judging.Wait()
		})
	}
}

// fakesOfMany lets a controller watch others beside the shop, which comes last.
func fakesOfMany(f *fakes, others int) {
	watched := f.watched
	f.watched = func(ctx context.Context) ([]deploy.Watched, error) {
		shop, err := watched(ctx)
		var all []deploy.Watched
		for i := range others {
			one := shop[0]
			one.Script = fmt.Sprintf("other%d", i)
			all = append(all, one)
		}
		return append(all, shop...), err
	}
}
