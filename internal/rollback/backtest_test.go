package rollback

import (
	"testing"
	"time"

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
	if s := one.FailuresSaved; s < 2300 || s > 2400 {
		t.Errorf("saved %v failures", s)
	}
	if two := r.Trials[1]; two.VersionID != v3 || two.FailedAt == nil || !two.FalseAlarm || !two.Until.Equal(kept.CreatedOn) {
		t.Errorf("the kept one: %+v", two)
	}
	if three := r.Trials[2]; three.VersionID != v3 || three.FailedAt != nil || three.FailuresSaved != 0 {
		t.Errorf("at 100 %%: %+v", three)
	}

	// A policy that nothing passes does nothing.
	r = Backtest(limits(0.5, 0), deployments, blocks, epoch, until)
	if r.FailuresSaved != 0 || r.FalseAlarms != 0 || r.Trials[0].FailedAt != nil {
		t.Errorf("%+v", r)
	}
	if r := Backtest(limits(0, 1), nil, nil, epoch, until); len(r.Trials) != 0 {
		t.Errorf("of nothing: %+v", r)
	}
}

// A trial that is over within its first unit, because it was rolled back at once.
func TestBacktestOfAShortTrial(t *testing.T) {
	first, bad, back := person(split{v1: 100}), person(split{v1: 50, v2: 50}), person(split{v1: 100})
	first.CreatedOn, bad.CreatedOn, back.CreatedOn = epoch, epoch.Add(time.Minute), epoch.Add(63*time.Second)
	var blocks []schema.RateBlock
	for i := range 120 {
		at := epoch.Add(time.Duration(i) * time.Second)
		if at.Before(bad.CreatedOn) || !at.Before(back.CreatedOn) {
			blocks = append(blocks, block(v1, at, 30, 0))
		} else {
			blocks = append(blocks, block(v1, at, 15, 0), block(v2, at, 15, 8))
		}
	}
	policy := limits(0, 1)
	policy.MinRequests = deploy.DefaultMinRequests
	r := Backtest(policy, []deploy.Deployment{back, bad, first}, blocks, epoch, epoch.Add(2*time.Minute))
	if len(r.Trials) != 1 {
		t.Fatalf("%d trials: %+v", len(r.Trials), r.Trials)
	}
	if one := r.Trials[0]; one.FailedAt == nil || one.FailedAt.After(back.CreatedOn) || one.Sentence == "" {
		t.Errorf("45 requests with 24 failures: %+v", one)
	}
}
