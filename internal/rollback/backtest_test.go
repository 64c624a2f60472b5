package rollback

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// A day and a half in which v2 was bad and taken back by a person after twenty minutes, and
// v3 failed a little more often than v2 and was kept.
func TestBacktest(t *testing.T) {
	first, bad, back, other := person(split{v1: 100}), person(split{v1: 90, v2: 10}), person(split{v1: 100}), person(split{v1: 50, v3: 50})
	kept := person(split{v3: 100})
	first.CreatedOn, bad.CreatedOn, back.CreatedOn = epoch, epoch.Add(10*time.Minute), epoch.Add(30*time.Minute)
	other.CreatedOn, kept.CreatedOn = epoch.Add(time.Hour), epoch.Add(80*time.Minute)
	deployments := []deploy.Deployment{kept, other, back, bad, first}
	until := epoch.Add(30 * time.Hour)
	var blocks []schema.RateBlock
	for i := range 2 * 3600 {
		at := epoch.Add(time.Duration(i) * time.Second)
		switch {
		case at.Before(bad.CreatedOn), !at.Before(back.CreatedOn) && at.Before(other.CreatedOn):
			blocks = append(blocks, block(v1, at, 100, int64(i%10)/9))
		case at.Before(back.CreatedOn):
			blocks = append(blocks, block(v1, at, 90, int64(i%10)/9), block(v2, at, 10, 2))
		case at.Before(kept.CreatedOn):
			blocks = append(blocks, block(v1, at, 50, int64(i%20)/19), block(v3, at, 50, int64(i%4)/3))
		default:
			blocks = append(blocks, block(v3, at, 100, int64(i%2)))
		}
	}
	r := Backtest(limits(0, 1), deployments, blocks, epoch, until)
	if len(r.Trials) != 3 || r.FalseAlarms != 1 {
		t.Fatalf("%d trials, %d false alarms: %+v", len(r.Trials), r.FalseAlarms, r.Trials)
	}
	one := r.Trials[0]
	if one.VersionID != v2 || one.FailedAt == nil || one.FailedAt.Sub(bad.CreatedOn) > 20*time.Second || one.FalseAlarm || one.Metric != deploy.MetricFailureRatio {
		t.Errorf("the bad one: %+v", one)
	}
	// 20 minutes, less what it took, at 2 failures a second, of which 0.01 were to be expected.
	if s := one.FailuresSaved; s == nil || *s < 2300 || *s > 2400 {
		t.Errorf("saved %v failures", deref(s))
	}
	if two := r.Trials[1]; two.VersionID != v3 || two.FailedAt == nil || !two.FalseAlarm || !two.Until.Equal(kept.CreatedOn) {
		t.Errorf("the kept one: %+v", two)
	}
	if three := r.Trials[2]; three.VersionID != v3 || three.FailedAt != nil || deref(three.FailuresSaved) != 0.0 {
		t.Errorf("at 100 %%: %+v", three)
	}

	// A policy that nothing passes does nothing.
	r = Backtest(limits(0.5, 0), deployments, blocks, epoch, until)
	if deref(r.FailuresSaved) != 0.0 || r.FalseAlarms != 0 || r.Trials[0].FailedAt != nil {
		t.Errorf("%+v", r)
	}
	if r := Backtest(limits(0, 1), nil, nil, epoch, until); len(r.Trials) != 0 {
		t.Errorf("of nothing: %+v", r)
	}
}

// deref is a number, or nil where it is not known.
func deref(f *float64) any {
	if f == nil {
		return nil
	}
	return *f
}

// A version at 100 % has no baseline beside it. All of its failures were told as saved, as if the
// baseline never failed.
func TestFailuresSaved(t *testing.T) {
	policy := limits(0.2, 0)
	policy.LookBackSeconds = 600 // more than is read for anything else
	began := epoch.Add(time.Hour)
	until := began.Add(10 * time.Minute)
	type each func(i int) schema.RateBlock
	steady := func(requests, failures int64) each {
		return func(int) schema.RateBlock { return counted2(requests, failures) }
	}
	none, half := steady(0, 0), steady(100, 50)
	// earlier are the seconds of v1 before its last look-back time, last those in it.
	f := func(name string, earlier, last, now, beside each, since time.Time, want any) {
		t.Helper()
		first, second := person(split{v1: 100}), person(split{v2: 100})
		if beside(0).Requests > 0 {
			second = person(split{v1: 1, v2: 99})
		}
		first.CreatedOn, second.CreatedOn = epoch, began
		p := &past{policy: policy, deployments: []deploy.Deployment{second, first}}
		p.blocks = append(p.blocks, seconds(epoch, 3000, func(i int) (c, b schema.RateBlock) { return c, earlier(i) })...)
		p.blocks = append(p.blocks, seconds(epoch.Add(3000*time.Second), 600, func(i int) (c, b schema.RateBlock) { return c, last(i) })...)
		p.blocks = append(p.blocks, seconds(began, 600, func(i int) (c, b schema.RateBlock) { return now(i), beside(i) })...)
		r, err := p.history(0, until.Add(time.Hour)).Backtest(t.Context(), deploy.BacktestQuery{Script: "shop", Policy: policy, Since: since, Until: until}, nil)
		if err != nil || len(r.Trials) != 1 {
			t.Fatalf("%s: %+v, error %v", name, r, err)
		}
		if diff := cmp.Diff(Backtest(policy, p.deployments, from(p.blocks, since), since, until), r); diff != "" {
			t.Errorf("%s: in pieces (-want +got)\n%s", name, diff)
		}
		one := r.Trials[0]
		if perSecond, ok := want.(float64); ok && one.FailedAt != nil {
			want = perSecond * until.Sub(*one.FailedAt).Seconds()
		}
		if diff := cmp.Diff(want, deref(one.FailuresSaved), cmpopts.EquateApprox(1e-9, 0)); diff != "" {
			t.Errorf("%s: failed at %v, saved (-want +got)\n%s", name, one.FailedAt, diff)
		}
		unknown := 0
		if want == nil {
			unknown = 1
		}
		if r.FailuresSavedUnknown != unknown || deref(r.FailuresSaved) != deref(one.FailuresSaved) {
			t.Errorf("%s: in all %v, not counting %d", name, deref(r.FailuresSaved), r.FailuresSavedUnknown)
		}
	}
	// Of 50 failures a second the baseline would have had 10, or 2.
	turned := func(i int) schema.RateBlock { return counted2(100, 20*int64(1-i/300)) }
	f("as in the whole look-back time", steady(100, 100), turned, half, none, epoch, 40.0)
	f("as beside", steady(100, 100), steady(100, 10), half, steady(50, 1), epoch, 48.0)
	atFirst := func(requests, failures int64) each {
		return func(i int) schema.RateBlock {
			return counted2(requests*int64(1-min(i, 1)), failures*int64(1-min(i, 1)))
		}
	}
	f("too few beside", steady(100, 100), steady(100, 10), half, atFirst(99, 0), epoch, 40.0)
	f("it was worse", steady(100, 0), steady(100, 60), half, none, epoch, 0.0)
	f("only the last second is replayed", steady(100, 0), steady(100, 10), half, none, began.Add(-time.Second), 40.0)
	f("too few in it", steady(100, 0), steady(99, 10), half, none, began.Add(-time.Second), nil)
	f("nothing before is replayed", steady(100, 0), steady(100, 10), half, none, began, nil)
	f("no requests in the last time", steady(100, 10), none, half, none, epoch, nil)
	f("impossible counts in the last time", steady(100, 10), steady(100, 101), half, none, epoch, nil)
	f("no failures afterwards", steady(100, 0), none, func(i int) schema.RateBlock { return counted2(100, atFirst(100, 100)(i).Failures) }, none, epoch, 0.0)
	f("never acted upon", steady(100, 0), none, steady(100, 1), none, epoch, 0.0)
}

// Trials of which nothing is known are neither in the sum nor make it unknown.
func TestFailuresSavedInAll(t *testing.T) {
	f := func(want any, unknown int, saved ...*float64) {
		t.Helper()
		b := &backtest{result: deploy.BacktestResult{Trials: []deploy.BacktestTrial{{FailuresSaved: new(0.0)}}}} // never acted upon
		for _, one := range saved {
			b.result.Trials = append(b.result.Trials, deploy.BacktestTrial{FailedAt: &epoch, FailuresSaved: one})
		}
		if r := b.done(); deref(r.FailuresSaved) != want || r.FailuresSavedUnknown != unknown {
			t.Errorf("%v, not counting %d; want %v, %d", deref(r.FailuresSaved), r.FailuresSavedUnknown, want, unknown)
		}
	}
	f(0.0, 0)
	f(7.5, 0, new(5.0), new(2.5))
	f(5.0, 2, new(5.0), nil, nil)
	f(0.0, 1, new(0.0), nil)
	f(nil, 2, nil, nil)
}

// shortTrial plays a trial that begins after a minute at a share, of as many seconds as there
// are, in the last of which a person rolls it back.
func shortTrial(t *testing.T, policy deploy.RollbackPolicy, share float64, of [][2]schema.RateBlock) (one deploy.BacktestTrial, began time.Time) {
	t.Helper()
	first, bad, back := person(split{v1: 100}), person(split{v1: 100 - share, v2: share}), person(split{v1: 100})
	began = epoch.Add(time.Minute)
	first.CreatedOn, bad.CreatedOn, back.CreatedOn = epoch, began, began.Add(time.Duration(len(of))*time.Second-600*time.Millisecond)
	blocks := seconds(epoch, 60, func(int) (c, b schema.RateBlock) { return counted2(0, 0), wall(100, 0, 90, 150) })
	blocks = append(blocks, seconds(began, len(of), func(i int) (c, b schema.RateBlock) { return of[i][candidate], of[i][baseline] })...)
	r := Backtest(policy, []deploy.Deployment{back, bad, first}, blocks, epoch, back.CreatedOn.Add(time.Minute))
	if len(r.Trials) != 1 {
		t.Fatalf("%d trials: %+v", len(r.Trials), r.Trials)
	}
	return r.Trials[0], began
}

// A trial that is over within its first unit, because it was rolled back at once, in the second that told.
func TestBacktestOfAShortTrial(t *testing.T) {
	policy := limits(0, 1)
	policy.MinRequests = deploy.DefaultMinRequests
	each := [2]schema.RateBlock{counted2(8, 6), counted2(8, 0)}
	one, began := shortTrial(t, policy, 50, [][2]schema.RateBlock{each, each, each})
	if one.FailedAt == nil || !one.FailedAt.Equal(began.Add(2400*time.Millisecond)) || one.Sentence == "" {
		t.Errorf("24 requests with 18 failures: %+v", one)
	}
}

// The evidence is there with 18 requests, in a unit that is whole. The twentieth, a good one, is
// in the open unit, in which a person rolls back.
func TestBacktestFindsWhatTheOpenUnitLetsAct(t *testing.T) {
	policy := limits(0, 1)
	policy.MinRequests = deploy.DefaultMinRequests
	good := [2]schema.RateBlock{counted2(10, 0), counted2(15, 0)}
	one, began := shortTrial(t, policy, 18, [][2]schema.RateBlock{{counted2(0, 0), counted2(0, 0)}, {counted2(18, 9), counted2(90, 0)}, good, good, good})
	if one.FailedAt == nil || !one.FailedAt.Equal(began.Add(3*time.Second)) || *one.Numbers.Requests != 48 {
		t.Errorf("28 requests with 9 failures after 3 s: %+v", one)
	}
}

// That the baseline is below its edge is taken live from settled seconds alone, so a ratio of
// a quantile is found two minutes after that is shown, unless it was shown long before.
func TestBacktestWaitsForWhatLiveWaitsFor(t *testing.T) {
	policy := limits(0, 0)
	policy.MaxP50WallRatio = new(1.5)
	var of [][2]schema.RateBlock
	for range 300 {
		of = append(of, [2]schema.RateBlock{wall(50, 45, 100, 900), wall(50, 0, 90, 150)})
	}
	one, began := shortTrial(t, policy, 50, of)
	if one.FailedAt == nil {
		t.Fatalf("%+v", one)
	}
	// 100 requests a second before it began, of which it takes 25 to choose the edge and 450 to show it.
	if after := one.FailedAt.Sub(began); after < settleAfter-time.Minute || after > settleAfter-45*time.Second {
		t.Errorf("found %v after it began", after)
	}
	if one, _ := shortTrial(t, policy, 50, of[:30]); one.FailedAt != nil || one.Sentence != "" {
		t.Errorf("found after a person had rolled back: %+v", one)
	}
}

// A backtest took the share of every second for no smaller than the configured one, live that is
// done for two minutes: what fails slowly, with fewer requests than its share promises, was found
// much later than live, or not at all.
func TestBacktestFindsWhatALookFinds(t *testing.T) {
	late := 0
	f := func(name string, set func(p *deploy.RollbackPolicy), perSecond, share, c, b float64) {
		t.Helper()
		p := limits(0, 0)
		set(&p)
		deployments := split90(10)
		r := rand.New(rand.NewPCG(31, 7))
		blocks := seconds(epoch.Add(-time.Hour), 3600, func(int) (one, other schema.RateBlock) { return counted2(0, 0), wall(20, 1, 10, 200) })
		blocks = append(blocks, seconds(epoch, 2400, func(int) (one, other schema.RateBlock) {
			n := poisson(r, perSecond)
			k := binomial(r, n, share)
			of := func(n int64, rate float64) schema.RateBlock {
				bad := binomial(r, n, rate)
				b := wall(n, bad, 10, 200)
				b.Failures = bad
				return b
			}
			return of(k, c), of(n-k, b)
		})...)
		until := epoch.Add(2400 * time.Second)
		rehearsal, err := NewRehearsal(p, deployments)
		if err != nil {
			t.Fatal(err)
		}
		var want *time.Time
		for _, second := range bySecond(blocks, epoch.Add(-time.Hour), until) {
			if rehearsal.Fails(second[0].Time, second) {
				want = new(second[0].Time.Add(time.Second))
				break
			}
		}
		if want == nil {
			t.Fatalf("%s: the rehearsal does not fail: nothing is compared", name)
		}
		if want.Sub(epoch) > 3*settleAfter {
			late++
		}
		one := Backtest(p, deployments, blocks, epoch.Add(-time.Hour), until).Trials[0]
		if one.FailedAt == nil || !one.FailedAt.Equal(*want) {
			t.Errorf("%s: a look finds it after %v, a backtest %v", name, want.Sub(epoch), one.FailedAt)
		}
	}
	ratio := func(p *deploy.RollbackPolicy) { p.MaxFailureRatio = new(1.0) }
	f("at once", ratio, 40, 0.1, 0.5, 0.02)
	f("slowly, with fewer requests than promised", ratio, 40, 0.07, 0.09, 0.05)
	f("by its rate", func(p *deploy.RollbackPolicy) { p.MaxFailureRate = new(0.05) }, 40, 0.1, 0.08, 0.01)
	f("traffic", func(p *deploy.RollbackPolicy) { p.MinTrafficRatio = new(0.9) }, 40, 0.07, 0, 0)
	f("a ratio of a quantile", func(p *deploy.RollbackPolicy) { p.MaxP90WallRatio = new(1.5) }, 40, 0.08, 0.16, 0.05)
	f("blocks", func(p *deploy.RollbackPolicy) { ratio(p); p.Evidence = deploy.EvidenceBlocks }, 40, 0.1, 0.4, 0.05)
	if late == 0 {
		t.Error("everything was found at once")
	}
}
