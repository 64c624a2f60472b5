package rollback

import (
	"math/rand/v2"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/rollback/sequential"
	"tidegate/schema"
)

// boundsOf are the bounds of the only limit after n seconds, all of them settled or seen at
// once.
func boundsOf(t *testing.T, set func(p *deploy.RollbackPolicy), n int, settled bool, c, b schema.RateBlock) (low, high *float64) {
	t.Helper()
	p := limits(0, 0)
	set(&p)
	e := evidenceOf(p)
	end := epoch.Add(time.Duration(n) * time.Second)
	blocks := seconds(epoch, n, func(int) (schema.RateBlock, schema.RateBlock) { return c, b })
	if settled {
		e.fold(blocks, end, split90(10))
	} else {
		e = e.look(blocks, end, split90(10))
	}
	a := e.assess(false)
	list := bounded(a.Evidence, a.measures)
	if len(list) != 1 || a.Evidence[0].Low != nil {
		t.Fatalf("evidence %+v", list)
	}
	return list[0].Low, list[0].High
}

func TestBoundsOfEachLimit(t *testing.T) {
	f := func(name string, set func(p *deploy.RollbackPolicy), c, b schema.RateBlock, least, truth, most float64) {
		t.Helper()
		low, high := boundsOf(t, set, 300, true, c, b)
		if low == nil || high == nil || !(*low > least && *low < truth && *high > truth && *high < most) {
			t.Errorf("%s: from %v to %v, want ends from %v to %v and %v between them", name, show(low), show(high), least, most, truth)
		}
	}
	ratio := func(p *deploy.RollbackPolicy) { p.MaxFailureRatio = new(1.0) }
	failureRate := func(p *deploy.RollbackPolicy) { p.MaxFailureRate = new(0.02) }
	f("three times as often", ratio, counted2(10, 3), counted2(90, 9), 2, 3, 4.5)
	f("a third as often", ratio, counted2(10, 1), counted2(90, 27), 0.2, 1.0/3, 0.5)
	f("a tenth fails", failureRate, counted2(10, 1), counted2(90, 0), 0.06, 0.1, 0.15)
	f("all fail", failureRate, counted2(10, 9), counted2(90, 0), 0.85, 0.9, 0.93)
	f("a half is answered", func(p *deploy.RollbackPolicy) { p.MinTrafficRatio = new(0.9) }, counted2(10, 0), counted2(180, 0), 0.4, 0.5, 0.6)
}

func show(f *float64) any {
	if f == nil {
		return "unknown"
	}
	return *f
}

// What cannot be said is absent, and not zero.
func TestBoundsThatAreUnknown(t *testing.T) {
	f := func(name string, set func(p *deploy.RollbackPolicy), n int, settled bool, c, b schema.RateBlock, wantLow, wantHigh bool) {
		t.Helper()
		if low, high := boundsOf(t, set, n, settled, c, b); (low != nil) != wantLow || (high != nil) != wantHigh {
			t.Errorf("%s: from %v to %v", name, show(low), show(high))
		}
	}
	ratio := func(p *deploy.RollbackPolicy) { p.MaxFailureRatio = new(1.0) }
	f("no failure", ratio, 300, true, counted2(10, 0), counted2(90, 0), false, false)
	f("none of its own", ratio, 300, true, counted2(10, 0), counted2(90, 2), false, true)
	f("all its own", ratio, 300, true, counted2(10, 1), counted2(90, 0), true, false)
	f("nothing is settled", ratio, 60, false, counted2(10, 3), counted2(90, 3), true, false)
	f("a rate of which nothing is settled", func(p *deploy.RollbackPolicy) { p.MaxFailureRate = new(0.02) }, 60, false, counted2(10, 3), counted2(90, 3), true, false)
	f("blocks", func(p *deploy.RollbackPolicy) { ratio(p); p.Evidence = deploy.EvidenceBlocks }, 300, true, counted2(10, 3), counted2(90, 3), false, false)
	f("a quantile", func(p *deploy.RollbackPolicy) { p.MaxP99WallMs = new(500.0) }, 300, true, wall(10, 1, 100, 900), wall(90, 0, 100, 900), false, false)
}

// Evidence that begins to be read after a day lacks the beginning of its trial: were there ends,
// each new reading would be another chance for them to be wrong.
func TestBoundsNeedTheBeginningOfTheTrial(t *testing.T) {
	f := func(age time.Duration, want bool) {
		t.Helper()
		p := limits(0.02, 1)
		now := epoch.Add(age)
		e := newEvidence(scope{candidate: v2, baseline: v1, from: epoch}, p, now)
		e.fold(seconds(now, 300, func(int) (schema.RateBlock, schema.RateBlock) { return counted2(10, 3), counted2(90, 9) }), now.Add(300*time.Second), split90(10))
		for _, one := range bounded(e.assess(false).Evidence, e.measures) {
			if one.Trials == 0 || (one.Low != nil) != want || (one.High != nil) != want {
				t.Errorf("read %v after it began, %s of %d trials lies from %v to %v", age, one.Metric, one.Trials, show(one.Low), show(one.High))
			}
		}
	}
	f(23*time.Hour, true)
	f(25*time.Hour, false)
}

// A second of unknown kinds would lower the upper end of what it speaks for, and of nothing else;
// that end does not come back.
func TestBoundsOfUnknownKinds(t *testing.T) {
	f := func(name string, c, b bool, want map[deploy.Metric]bool) {
		t.Helper()
		p := limits(0.02, 1)
		p.MinTrafficRatio, p.Count = new(0.9), deploy.CountStatus5xx
		e := evidenceOf(p)
		e.fold(seconds(epoch, 600, func(i int) (schema.RateBlock, schema.RateBlock) {
			of := [2]schema.RateBlock{{Requests: 10, Failures: 3, Status5xx: 3}, {Requests: 90, Failures: 9, Status5xx: 9}}
			of[candidate].KindsUnknown, of[baseline].KindsUnknown = c && i == 100, b && i == 100
			return of[candidate], of[baseline]
		}), epoch.Add(10*time.Minute), split90(10))
		for _, one := range bounded(e.assess(false).Evidence, e.measures) {
			if one.Low == nil || (one.High != nil) != want[one.Metric] {
				t.Errorf("%s: %s lies from %v to %v", name, one.Metric, show(one.Low), show(one.High))
			}
		}
	}
	f("all are known", false, false, map[deploy.Metric]bool{deploy.MetricFailureRate: true, deploy.MetricFailureRatio: true, deploy.MetricTraffic: true})
	f("the baseline's are not", false, true, map[deploy.Metric]bool{deploy.MetricFailureRate: true, deploy.MetricTraffic: true})
	f("the version's are not", true, false, map[deploy.Metric]bool{deploy.MetricTraffic: true})
}

// What a look has of a second that is not over is of its moment, not of the second's end.
func TestSeriesEndsWithTheLook(t *testing.T) {
	e := evidenceOf(limits(0, 1))
	blocks := seconds(epoch, 3, func(int) (schema.RateBlock, schema.RateBlock) { return counted2(5, 5), counted2(25, 5) })
	now := epoch.Add(2300 * time.Millisecond)
	for _, one := range e.look(blocks, now, split90(10)).assess(false).Evidence {
		if last := one.Series[len(one.Series)-1]; !last.At.Equal(now) || last.LogE != one.LogE {
			t.Errorf("the last point of %s is %v at %v", one.Metric, last.LogE, last.At)
		}
	}
}

// A unit that a look takes before its end moves the test, and not the ends.
func TestBoundsAreOfWholeUnits(t *testing.T) {
	p := limits(0, 1)
	e := evidenceOf(p)
	from := epoch.Add(transition) // each second before is a unit by itself
	blocks := seconds(from, 3, func(int) (schema.RateBlock, schema.RateBlock) { return counted2(5, 5), counted2(25, 5) })
	a := e.look(blocks, from.Add(3*time.Second), split90(10)).assess(false)
	if one := bounded(a.Evidence, a.measures)[0]; one.Events != 15 || one.LogE <= 0 || one.Low != nil {
		t.Errorf("15 of 30 failures in an open unit: %+v", one)
	}
	blocks = append(blocks, seconds(from.Add(3*time.Second), 1, func(int) (schema.RateBlock, schema.RateBlock) { return counted2(80, 80), counted2(400, 80) })...)
	a = e.look(blocks, from.Add(4*time.Second), split90(10)).assess(false)
	if one := bounded(a.Evidence, a.measures)[0]; one.Low == nil {
		t.Errorf("95 of 190 failures in a whole unit: %+v", one)
	}
}

// A test that an open unit takes past its limit does not stand beside an end that lets the limit be kept.
func TestBoundsFollowAPassedTest(t *testing.T) {
	e := evidenceOf(limits(0, 1))
	bad := func(int) (schema.RateBlock, schema.RateBlock) { return counted2(2, 1), counted2(18, 1) }
	passed := false
	for n := 1; n <= 20 && !passed; n++ {
		a := e.look(seconds(epoch, n, bad), epoch.Add(time.Duration(n)*time.Second), split90(10)).assess(false)
		behind, _ := a.measures[0].bounds()
		one := bounded(a.Evidence, a.measures)[0]
		if passed = one.LogE >= one.Threshold && behind != nil && *behind < 1; passed && *one.Low != 1 {
			t.Errorf("the test passed 1, and the ratio is at least %v", *one.Low)
		}
	}
	if !passed {
		t.Error("no open unit took the test past its limit before the end")
	}
	m, one := newMeasure(deploy.Limit{Metric: deploy.MetricTraffic, Value: 0.9}, 0.001), deploy.Evidence{Limit: 0.9, High: new(0.95)}
	if m.pass(&one); *one.High != 0.9 {
		t.Errorf("less than 0.9 is answered, and at most %v", *one.High)
	}
}

// Through the units and looks that ship, the truth lies within the bounds at any look, but in
// as many trials as the level allows, and chance on top: 23 of 100 where it allows 10.
func TestBoundsCoverAtAllLooks(t *testing.T) {
	const trials, alpha, truth = 100, 0.1, 2.0
	r := rand.New(rand.NewPCG(23, 23))
	below, above := 0, 0
	for range trials {
		p := limits(0, truth)
		p.Confidence = 1 - alpha
		e := evidenceOf(p)
		deployments := split90(20)
		var blocks []schema.RateBlock
		missedLow, missedHigh := false, false
		for i := range 400 {
			now := epoch.Add(time.Duration(i) * time.Second)
			n := poisson(r, 40)
			c := binomial(r, n, 0.2)
			blocks = append(blocks, seconds(now, 1, func(int) (schema.RateBlock, schema.RateBlock) {
				return counted2(c, binomial(r, c, 0.1*truth)), counted2(n-c, binomial(r, n-c, 0.1))
			})...)
			e.fold(blocks, settledAt(now.Add(time.Second)), deployments)
			if i%50 != 49 {
				continue
			}
			a := e.look(blocks, now.Add(time.Second), deployments).assess(false)
			one := bounded(a.Evidence, a.measures)[0]
			missedLow = missedLow || one.Low != nil && *one.Low > truth
			missedHigh = missedHigh || one.High != nil && *one.High < truth
		}
		if missedLow {
			above++
		}
		if missedHigh {
			below++
		}
	}
	if most := sequential.MostRejections(trials, alpha, 1e-4); above > most || below > most {
		t.Errorf("a ratio of %v was below the lower end in %d of %d trials and above the upper one in %d, at most %d are chance", truth, above, trials, below, most)
	}
}
