package rollback

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema"
)

// past is a script whose deployments and seconds are over.
type past struct {
	deployments []deploy.Deployment
	blocks      []schema.RateBlock
	policy      deploy.RollbackPolicy
	asked       []time.Duration // how long the pieces were
	failure     error
	since       time.Time // when the policy began to be followed
}

func (p *past) DeploymentsSince(_ context.Context, _, script string, since time.Time, before, limit int) ([]deploy.Deployment, error) {
	if script != "shop" {
		return nil, errs.New(errs.NotFound, 10007, "no script %s", script)
	}
	n := len(p.deployments)
	if i := slices.IndexFunc(p.deployments, func(d deploy.Deployment) bool { return d.CreatedOn.Before(since) }); i >= 0 {
		n = min(n, i+before)
	}
	return p.deployments[:min(n, limit)], nil
}

func (p *past) Policy(context.Context, string, string) (deploy.PolicyRevision, error) {
	return deploy.PolicyRevision{Source: deploy.PolicyOfAccount, Revision: 3, Policy: &p.policy, Since: p.since}, nil
}

func (p *past) Ramp(context.Context, string, string) (deploy.Ramp, error) {
	return deploy.Ramp{}, errs.New(errs.NotFound, 0, "no ramp")
}

func (p *past) RateBlocks(_ context.Context, _, _ string, since, until time.Time, _ bool) ([]schema.RateBlock, error) {
	p.asked = append(p.asked, until.Sub(since))
	var list []schema.RateBlock
	for _, b := range p.blocks {
		if !b.Time.Before(since) && b.Time.Before(until) {
			list = append(list, b)
		}
	}
	return list, p.failure
}

func (p *past) history(kept time.Duration, now time.Time) *History {
	return NewHistory(HistoryConfig{Rates: p, Scripts: p, Kept: kept, Now: func() time.Time { return now }})
}

// badDay is v1, then v2 beside it, which fails from the second hour on, for three hours.
func badDay() *past {
	first, second := person(split{v1: 100}), person(split{v1: 90, v2: 10})
	first.CreatedOn, second.CreatedOn = epoch, epoch.Add(30*time.Minute)
	p := &past{deployments: []deploy.Deployment{second, first}, policy: limits(0, 1)}
	for i := range 3 * 3600 {
		at := epoch.Add(time.Duration(i) * time.Second)
		if at.Before(second.CreatedOn) {
			p.blocks = append(p.blocks, block(v1, at, 100, int64(i%10)/9))
			continue
		}
		bad := int64(i%100) / 99
		if i >= 2*3600 {
			bad = 3
		}
		p.blocks = append(p.blocks, block(v1, at, 90, int64(i%10)/9), block(v2, at, 10, bad))
	}
	return p
}

func TestPiecesMakeTheSameBacktest(t *testing.T) {
	p := badDay()
	until := epoch.Add(3*time.Hour - 10*time.Minute)
	want := Backtest(p.policy, p.deployments, p.blocks, epoch, until)
	if len(want.Trials) != 1 || want.Trials[0].FailedAt == nil || want.Trials[0].FailedAt.Before(epoch.Add(2*time.Hour)) {
		t.Fatalf("%+v", want.Trials)
	}
	var at []time.Time
	got, err := p.history(0, epoch.Add(3*time.Hour)).Backtest(t.Context(), deploy.BacktestQuery{Script: "shop", Policy: p.policy, Since: epoch, Until: until},
		func(p deploy.BacktestProgress) { at = append(at, p.At) })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("in pieces (-want +got)\n%s", diff)
	}
	if len(p.asked) < 3 || slices.Max(p.asked) > backtestPiece || !at[0].Equal(epoch) || !at[len(at)-1].Equal(until) || !slices.IsSortedFunc(at, time.Time.Compare) {
		t.Errorf("pieces of %v, progress %v", p.asked, at)
	}
	// Evidence goes on to the end of the trial.
	if series := got.Trials[0].Evidence[0].Series; !series[len(series)-1].At.Equal(until) {
		t.Errorf("the series ends at %v", series[len(series)-1].At)
	}
}

func TestWhatCanBeReplayed(t *testing.T) {
	p := badDay()
	now := epoch.Add(3 * time.Hour)
	f := func(kept time.Duration, since, until, wantSince, wantUntil time.Time) {
		t.Helper()
		r, err := p.history(kept, now).Backtest(t.Context(), deploy.BacktestQuery{Script: "shop", Policy: p.policy, Since: since, Until: until}, nil)
		if wantSince.IsZero() {
			if errs.KindOf(err) != errs.Invalid {
				t.Errorf("it is %+v, error %v", r, err)
			}
			return
		}
		if err != nil || !r.Since.Equal(wantSince) || !r.Until.Equal(wantUntil) {
			t.Errorf("from %v to %v, error %v; want %v to %v", r.Since, r.Until, err, wantSince, wantUntil)
		}
	}
	settled := now.Add(-settleAfter)
	f(0, time.Time{}, time.Time{}, now.Add(-backtestMost), settled)
	f(2*time.Hour, time.Time{}, time.Time{}, now.Add(-2*time.Hour), settled)
	f(2*time.Hour, epoch, now.Add(time.Hour), now.Add(-2*time.Hour), settled)
	f(0, epoch.Add(time.Millisecond), epoch.Add(time.Hour+time.Millisecond), epoch.Add(time.Second), epoch.Add(time.Hour))
	f(0, now.Add(-time.Minute), time.Time{}, time.Time{}, time.Time{})
	f(time.Hour, epoch, epoch.Add(time.Hour), time.Time{}, time.Time{})

	p.failure = errs.New(errs.Unavailable, 0, "away")
	if _, err := p.history(0, now).Backtest(t.Context(), deploy.BacktestQuery{Script: "shop", Policy: p.policy}, nil); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("without rates: %v", err)
	}
	if _, err := p.history(0, now).Backtest(t.Context(), deploy.BacktestQuery{Script: "blog", Policy: p.policy}, nil); errs.KindOf(err) != errs.NotFound {
		t.Errorf("of no script: %v", err)
	}
}

// Questions one after the other see what a controller that looks for the first time sees.
func TestEvidenceOfNow(t *testing.T) {
	p := badDay()
	now := epoch.Add(2*time.Hour - time.Second)
	h := NewHistory(HistoryConfig{Rates: p, Scripts: p, Now: func() time.Time { return now }})
	var live deploy.LiveEvidence
	var err error
	for i := range 20 {
		now = now.Add(time.Second)
		p.asked = nil
		if live, err = h.Evidence(t.Context(), "account", "shop"); err != nil || len(live.Trials) != 1 || live.PolicyRevision != 3 || !live.Enabled {
			t.Fatalf("%+v, error %v", live, err)
		}
		if i > 0 && slices.Max(p.asked) > settleAfter+2*time.Second {
			t.Errorf("pieces of %v were read again", p.asked)
		}
	}
	one := live.Trials[0]
	if one.VersionID != v2 || one.BaselineVersionID != v1 || one.Verdict != deploy.VerdictFail || one.Metric != deploy.MetricFailureRatio || !one.Since.Equal(epoch.Add(30*time.Minute)) {
		t.Errorf("%+v", one)
	}
	if one.Heard == nil || !one.Heard.Equal(now) || one.BaselineHeard == nil || !one.BaselineHeard.Equal(now) {
		t.Errorf("heard of the versions until %v and %v: want the end of the last second before %v", one.Heard, one.BaselineHeard, now)
	}
	fresh, err := p.history(0, now).Evidence(t.Context(), "account", "shop")
	if diff := cmp.Diff(fresh, live); diff != "" || err != nil {
		t.Errorf("error %v, (-read anew +remembered)\n%s", err, diff)
	}
	p.since = now.Add(-time.Minute)
	if since, err := p.history(0, now).Evidence(t.Context(), "account", "shop"); err != nil || !since.Trials[0].Since.Equal(p.since) {
		t.Errorf("evidence %+v, error %v; want it from when the policy began to be followed", since, err)
	}
	p.blocks = nil
	if silent, err := p.history(0, now).Evidence(t.Context(), "account", "shop"); err != nil || silent.Trials[0].Heard != nil || silent.Trials[0].BaselineHeard != nil {
		t.Errorf("without requests %+v, error %v", silent, err)
	}
	p.failure = errors.New("broken")
	if _, err := h.Evidence(t.Context(), "account", "shop"); err == nil {
		t.Error("without rates there is evidence")
	}
}

// A script whose first deployment was a split had a policy that judged nothing, and only the log
// of the controller said so: evidence told that no version was on trial.
func TestEvidenceTellsWhyNothingCanBeJudged(t *testing.T) {
	first, second, third := person(split{v1: 100}), person(split{v2: 100}), person(split{v3: 100})
	halves := person(split{v1: 90, v2: 10})
	f := func(name string, trials int, want string, deployments ...deploy.Deployment) {
		t.Helper()
		p := &past{deployments: history(deployments...), policy: limits(0, 1)}
		now := p.deployments[0].CreatedOn.Add(time.Minute)
		live, err := p.history(0, now).Evidence(t.Context(), "account", "shop")
		if err != nil || len(live.Trials) != trials || want == "" && live.Reason != "" || !strings.Contains(live.Reason, want) {
			t.Errorf("%s: %d on trial, reason %q, error %v; want %d, and %q", name, len(live.Trials), live.Reason, err, trials, want)
		}
	}
	f("a split from the first deployment on", 0, "deploy one version at 100 % first", halves)
	f("then one of them at 100 %", 0, "the next version that is deployed is judged against this one", first, halves)
	f("then the other one beside it", 1, "", halves, first, halves)
	f("its baseline fell out", 0, "the next version that is deployed", slices.Repeat([]deploy.Deployment{second}, deploy.WatchedDeployments)...)
	f("put back although it was on trial", 0, "deploy the one before it at 100 %", rolledBackTo(v2), third, second, first)

	f("the first version", 0, "", first)
	f("no deployment was divided", 1, "", second, first)
	f("rolled back", 0, "", rolledBackTo(v1), halves, first)

	p := badDay()
	p.since = epoch.Add(10 * time.Hour)
	live, err := p.history(0, epoch.Add(time.Hour)).Evidence(t.Context(), "account", "shop")
	if err != nil || len(live.Trials) != 1 || !strings.Contains(live.Reason, "is dated "+p.since.Format(time.RFC3339)) {
		t.Errorf("with a policy that is dated ahead: %+v, error %v", live, err)
	}
}

func TestFewScriptsAreRemembered(t *testing.T) {
	p := badDay()
	now := epoch
	h := NewHistory(HistoryConfig{Rates: p, Scripts: p, Now: func() time.Time { now = now.Add(time.Second); return now }})
	for i := range 3 * rememberedMost {
		h.remember(scriptKey{"account", string(rune('a' + i))})
		h.remember(scriptKey{"account", "shop"})
	}
	if len(h.remembered) != rememberedMost || h.remembered[scriptKey{"account", "shop"}] == nil {
		t.Errorf("%d are remembered", len(h.remembered))
	}
}

// Traffic ends between two questions: seconds that are settled meanwhile are not looked for
// any more, and have not gone.
func TestTrafficThatEndsIsNoDoubt(t *testing.T) {
	p := badDay()
	now := epoch.Add(time.Hour)
	h := NewHistory(HistoryConfig{Rates: p, Scripts: p, Now: func() time.Time { return now }})
	p.blocks = slices.DeleteFunc(p.blocks, func(b schema.RateBlock) bool { return !b.Time.Before(now) })
	for _, later := range []time.Duration{0, time.Minute, 5 * time.Minute, time.Second} {
		now = now.Add(later)
		live, err := h.Evidence(t.Context(), "account", "shop")
		if err != nil || len(live.Trials) != 1 {
			t.Fatalf("%+v, error %v", live, err)
		}
		if s := live.Trials[0].Sentence; strings.Contains(s, "cannot be right") {
			t.Errorf("%s later: %s", later, s)
		}
	}
}

// A second that has gone is missed also when it is the first of those that are not settled.
func TestASecondThatHasGoneIsDoubt(t *testing.T) {
	p := badDay()
	now := epoch.Add(time.Hour)
	h := NewHistory(HistoryConfig{Rates: p, Scripts: p, Now: func() time.Time { return now }})
	ask := func() string {
		t.Helper()
		live, err := h.Evidence(t.Context(), "account", "shop")
		if err != nil || len(live.Trials) != 1 {
			t.Fatalf("%+v, error %v", live, err)
		}
		return live.Trials[0].Sentence
	}
	if s := ask(); strings.Contains(s, "cannot be right") {
		t.Error(s)
	}
	p.blocks = slices.DeleteFunc(p.blocks, func(b schema.RateBlock) bool { return b.Time.Before(now.Add(-settleAfter + time.Second)) })
	if s := ask(); !strings.Contains(s, "cannot be right") {
		t.Errorf("a second has gone, and it says %q", s)
	}
}

// Of more deployments than are replayed the newest count. What was asked for may be before
// all of them: "no version was on trial" would be no answer.
func TestATimeBeforeTheDeploymentsThatAreReplayedIsRefused(t *testing.T) {
	p := badDay()
	for i := range backtestDeployments {
		d := person(split{v1: 90, v2: 10})
		d.CreatedOn = epoch.Add(2*time.Hour + time.Duration(i)*time.Millisecond)
		p.deployments = slices.Insert(p.deployments, 0, d)
	}
	h := p.history(0, epoch.Add(3*time.Hour))
	ask := func(until time.Time) (deploy.BacktestResult, error) {
		return h.Backtest(t.Context(), deploy.BacktestQuery{Script: "shop", Policy: p.policy, Since: epoch, Until: until}, nil)
	}
	if r, err := ask(epoch.Add(time.Hour)); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "2026-11-01T14:00:01Z") {
		t.Errorf("%+v, error %v", r, err)
	}
	if r, err := ask(epoch.Add(150 * time.Minute)); err != nil || !r.Since.Equal(epoch.Add(2*time.Hour+time.Second)) {
		t.Errorf("from %v to %v, error %v", r.Since, r.Until, err)
	}
}
