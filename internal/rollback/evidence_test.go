package rollback

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// split90 is a trial of v2 beside v1, which has had all traffic for an hour.
func split90(share float64) []deploy.Deployment {
	before, now := person(split{v1: 100}), person(split{v1: 100 - share, v2: share})
	before.CreatedOn, now.CreatedOn = epoch.Add(-time.Hour), epoch
	return []deploy.Deployment{now, before}
}

func evidenceOf(p deploy.RollbackPolicy) *evidence {
	return newEvidence(scope{candidate: v2, baseline: v1, from: epoch}, p, epoch)
}

// seconds makes blocks of n seconds from a time on, of both versions.
func seconds(from time.Time, n int, of func(i int) (candidate, baseline schema.RateBlock)) []schema.RateBlock {
	var blocks []schema.RateBlock
	for i := range n {
		c, b := of(i)
		at := from.Add(time.Duration(i) * time.Second)
		c.VersionID, b.VersionID, c.Time, b.Time = v2, v1, at, at
		blocks = append(blocks, b, c)
	}
	return blocks
}

func counted2(requests, failures int64) schema.RateBlock {
	return schema.RateBlock{Requests: requests, Failures: failures}
}

// wall are requests of which some are slow.
func wall(requests, slowOnes int64, fastMs, slowMs float64) schema.RateBlock {
	return schema.RateBlock{Requests: requests, Wall: schema.Durations{schema.DurationBucket(fastMs): requests - slowOnes, schema.DurationBucket(slowMs): slowOnes}}
}

func TestSentencesOfEachLimit(t *testing.T) {
	reference := seconds(epoch.Add(-300*time.Second), 300, func(int) (c, b schema.RateBlock) { return schema.RateBlock{}, wall(100, 0, 100, 1) })
	f := func(set func(p *deploy.RollbackPolicy), metric deploy.Metric, c, b schema.RateBlock, n int, want string) {
		t.Helper()
		p := limits(0, 0)
		set(&p)
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		e := evidenceOf(p)
		now := epoch.Add(time.Duration(n) * time.Second)
		e.fold(append(slices.Clone(reference), seconds(epoch, n, func(int) (schema.RateBlock, schema.RateBlock) { return c, b })...), now, split90(10))
		a := e.assess(false)
		if a.Verdict != deploy.VerdictFail || a.Metric != metric || a.Sentence != want {
			t.Errorf("%s by %q: %q, want %q", a.Verdict, a.Metric, a.Sentence, want)
		}
		if n := a.Numbers; n.Limit == nil || n.Requests == nil || *n.Requests == 0 {
			t.Errorf("%s: numbers %+v", metric, n)
		}
		first := a.Evidence[0]
		if first.Metric != metric || first.LogE < first.Threshold || first.PValue > 0.001 || float64(first.Events) <= first.Expected || len(first.Series) == 0 {
			t.Errorf("%s: evidence %+v", metric, first)
		}
	}
	limit := func(m deploy.Metric, v float64) func(p *deploy.RollbackPolicy) {
		return func(p *deploy.RollbackPolicy) { p.SetLimit(m, &v) }
	}
	f(limit(deploy.MetricFailureRatio, 1), deploy.MetricFailureRatio, counted2(13, 1), counted2(117, 0), 25,
		"after 325 requests: 25 failures (7.7 %) against 0 % on the baseline; chance of this if equally good: below 1 in 1,000,000,000")
	f(limit(deploy.MetricFailureRatio, 3), deploy.MetricFailureRatio, counted2(10, 2), counted2(90, 1), 30,
		"after 300 requests: 60 failures (20 %) against 1.1 % on the baseline; chance of this if it failed at most 3 times as often: below 1 in 1,000,000,000")
	f(limit(deploy.MetricFailureRate, 0.02), deploy.MetricFailureRate, counted2(10, 1), counted2(90, 0), 30,
		"after 300 requests: 30 failures (10 %), above the limit of 2 %; chance of this if the limit were kept: below 1 in 1,000,000,000")
	f(limit(deploy.MetricP99Wall, 500), deploy.MetricP99Wall, wall(10, 1, 100, 900), wall(90, 0, 100, 900), 30,
		"after 300 requests: 30 took more than 512 ms (10 %), where p99 allows 1 %; chance of this if the limit were kept: below 1 in 1,000,000,000")
	f(limit(deploy.MetricP50WallRatio, 1.5), deploy.MetricP50WallRatio, wall(10, 9, 100, 900), wall(90, 20, 90, 150), 30,
		"after 300 requests: 270 took more than 159 ms (90 %) against 22.2 % above 103 ms on the baseline; chance of this if its p50 were at most 1.5 times the baseline's: below 1 in 1,000,000,000")
	f(limit(deploy.MetricP90WallRatio, 1), deploy.MetricP90WallRatio, wall(10, 9, 100, 900), wall(90, 20, 90, 150), 30,
		"after 300 requests: 270 took more than 103 ms (90 %) against 22.2 % above 103 ms on the baseline; chance of this if equally fast: below 1 in 1,000,000,000")
	f(limit(deploy.MetricTraffic, 0.5), deploy.MetricTraffic, counted2(1, 0), counted2(99, 0), 30,
		"after 2,500 requests of both versions: answered 25 of about 250 that its share promises (10 %); chance of this if it answered at least 50 % of them: below 1 in 1,000,000,000")
}

func poisson(r *rand.Rand, mean float64) int64 {
	limit, n, product := math.Exp(-mean), int64(0), r.Float64()
	for product > limit {
		n++
		product *= r.Float64()
	}
	return n
}

func binomial(r *rand.Rand, n int64, p float64) (hits int64) {
	for range n {
		if r.Float64() < p {
			hits++
		}
	}
	return hits
}

// Folded at once, or second by second with looks in between, the evidence is the same:
// so it is after a restart.
func TestEvidenceIsReadAgain(t *testing.T) {
	f := func(name string, p deploy.RollbackPolicy) {
		t.Helper()
		blocks := seconds(epoch.Add(-400*time.Second), 2000, func(i int) (c, b schema.RateBlock) {
			c, b = wall(int64(i%13), int64(i%3), 100, 300), wall(int64(i%90), 1, 100, 300)
			c.Failures, b.Failures = min(c.Requests, int64(i%4)/3), min(b.Requests, int64(i%7)/6)
			c.Wall[schema.DurationBucket(300)] = min(c.Requests, int64(i%3))
			c.Wall[schema.DurationBucket(100)] = c.Requests - c.Wall[schema.DurationBucket(300)]
			b.Wall = schema.Durations{schema.DurationBucket(100): b.Requests}
			return c, b
		})
		end := epoch.Add(1500 * time.Second)
		deployments := split90(10)
		at := func(e *evidence) []deploy.Evidence {
			return e.look(blocks, end.Add(60*time.Second), deployments).report(nil)
		}
		once := evidenceOf(p)
		once.fold(blocks, end, deployments)
		steps := evidenceOf(p)
		for now := epoch.Add(-100 * time.Second); !now.After(end); now = now.Add(7 * time.Second) {
			steps.fold(blocks, now, deployments)
			steps.look(blocks, now.Add(settleAfter), deployments)
		}
		steps.fold(blocks, end, deployments)
		if diff := cmp.Diff(at(once), at(steps)); diff != "" {
			t.Errorf("%s: at once (-) and in steps (+):\n%s", name, diff)
		}
	}
	p := limits(0.05, 1)
	p.MaxP99WallRatio, p.MaxP90WallMs, p.MinTrafficRatio = new(1.5), new(200.0), new(0.5)
	f("requests", p)
	p.Evidence, p.BlockSeconds = deploy.EvidenceBlocks, 7
	f("blocks", p)
}

// What is read again after more than a day has less evidence, never more.
func TestForgettingLowersTheEvidence(t *testing.T) {
	p := limits(0, 1)
	p.LookBackSeconds = 3600
	deployments := split90(10)
	hours := int(memory/time.Hour) + 3
	now := epoch.Add(time.Duration(hours) * time.Hour)
	for _, badFrom := range []int{0, hours - 2} { // hours
		blocks := seconds(epoch, hours*3600, func(i int) (schema.RateBlock, schema.RateBlock) {
			bad := int64(0)
			if i >= badFrom*3600 && i%20 == 0 {
				bad = 1
			}
			return counted2(10, bad), counted2(90, int64(i%120)/119)
		})
		all := evidenceOf(p)
		all.fold(blocks, now, deployments)
		again := newEvidence(scope{candidate: v2, baseline: v1, from: epoch}, p, now)
		again.fold(blocks, now, deployments)
		a, b := all.measures[0].test.LogE(), again.measures[0].test.LogE()
		if b > a || b <= 0 {
			t.Errorf("bad from hour %d: evidence %v, read again %v", badFrom, a, b)
		}
		if all.starts != again.starts {
			t.Errorf("%d starts, read again %d", all.starts, again.starts)
		}
	}
}

// A version that was good for long and turns bad is explained by what it does now.
func TestWhatSpeaksLoudestIsShown(t *testing.T) {
	p := limits(0, 1)
	p.LookBackSeconds = 300
	e := evidenceOf(p)
	blocks := seconds(epoch, 3640, func(i int) (schema.RateBlock, schema.RateBlock) {
		if i < 3600 {
			return counted2(10, 0), counted2(90, int64(i%20)/19)
		}
		return counted2(10, 2), counted2(90, 0)
	})
	e.fold(blocks, epoch.Add(3640*time.Second), split90(10))
	a := e.assess(false)
	const want = "after 400 requests since 13:00:00 UTC: 80 failures (20 %) against 0 % on the baseline; chance of this if equally good: below 1 in 1,000,000,000"
	if a.Verdict != deploy.VerdictFail || a.Sentence != want {
		t.Errorf("%s: %q", a.Verdict, a.Sentence)
	}
	if n := len(a.Evidence[0].Series); n > seriesMax || n < seriesMax/2-1 {
		t.Errorf("%d points", n)
	}
}

// Three failures are asked for, and were there: the time that spoke loudest had two of them.
func TestFailuresOfTheWholeTrialLetAct(t *testing.T) {
	p := limits(0.0002, 0)
	p.Confidence = 0.9
	e := evidenceOf(p)
	e.fold(seconds(epoch, 302, func(i int) (schema.RateBlock, schema.RateBlock) {
		return counted2(10, map[int]int64{10: 1, 301: 2}[i]), counted2(90, 0)
	}), epoch.Add(302*time.Second+unitMax), split90(10))
	w, _ := e.window(e.measures[0])
	if a := e.assess(false); w.hits != 2 || e.measures[0].total.hits != 3 || a.Verdict != deploy.VerdictFail {
		t.Errorf("%v failures in the loudest time, %v in all, log E %v: %s", w.hits, e.measures[0].total.hits, e.measures[0].logE(), a.Verdict)
	}
}

func TestSentencesGiveTheDate(t *testing.T) {
	if got := timeOfDay(epoch, epoch.Add(11*time.Hour)); got != "12:00:00 UTC" {
		t.Errorf("on the same day: %q", got)
	}
	if got := timeOfDay(epoch, epoch.Add(12*time.Hour)); got != "2026-11-01 12:00:00 UTC" {
		t.Errorf("on the next day: %q", got)
	}
}

func TestWhatHoldsActionBack(t *testing.T) {
	f := func(name string, set func(p *deploy.RollbackPolicy), c, b schema.RateBlock, n int, want deploy.Verdict) {
		t.Helper()
		p := limits(0, 1)
		set(&p)
		e := evidenceOf(p)
		e.fold(seconds(epoch, n, func(int) (schema.RateBlock, schema.RateBlock) { return c, b }), epoch.Add(time.Duration(n)*time.Second), split90(10))
		if a := e.assess(false); a.Verdict != want {
			t.Errorf("%s: %s: %s", name, a.Verdict, a.Sentence)
		}
	}
	none := func(*deploy.RollbackPolicy) {}
	f("nothing", none, counted2(10, 2), counted2(90, 0), 60, deploy.VerdictFail)
	f("too few requests", none, counted2(1, 1), counted2(90, 0), 99, deploy.VerdictInconclusive)
	f("too small a difference", func(p *deploy.RollbackPolicy) { p.MinFailureDifference = new(0.3) }, counted2(10, 2), counted2(90, 0), 60, deploy.VerdictPass)
	f("a difference that is large enough", func(p *deploy.RollbackPolicy) { p.MinFailureDifference = new(0.1) }, counted2(10, 2), counted2(90, 0), 60, deploy.VerdictFail)
	f("no baseline", none, counted2(100, 50), counted2(0, 0), 60, deploy.VerdictInconclusive)
	f("other failures", func(p *deploy.RollbackPolicy) { p.Count = deploy.CountExceptions }, counted2(10, 2), counted2(90, 0), 60, deploy.VerdictPass)
	f("kinds unknown", func(p *deploy.RollbackPolicy) { p.Count = deploy.CountExceptions },
		schema.RateBlock{Requests: 10, Failures: 2, KindsUnknown: true}, counted2(90, 0), 60, deploy.VerdictInconclusive)
}

// Of a version that was deployed straight to 100 % it was said that the baseline had 0 of the
// requests that comparing needs, for ever.
func TestABaselineWithoutAShareIsNotWaitedFor(t *testing.T) {
	f := func(share, rateMax float64, want string) {
		t.Helper()
		e := evidenceOf(limits(rateMax, 1))
		deployments, end := split90(share), epoch.Add(time.Minute)
		blocks := seconds(epoch, 60, func(int) (schema.RateBlock, schema.RateBlock) { return counted2(10, 5), counted2(0, 0) })
		if a := e.look(blocks, end, deployments).assess(false); a.Verdict != deploy.VerdictInconclusive || a.Sentence != want {
			t.Errorf("%v %%: %s: %q, want %q", share, a.Verdict, a.Sentence, want)
		}
	}
	const seen = "300 failures in 600 requests (50 %); "
	f(100, 0, seen+"the baseline gets no requests in this deployment: a limit that compares cannot act; give both versions a share, or set max_failure_rate")
	f(100, 0.9, seen+"the baseline gets no requests in this deployment: a limit that compares cannot act")
	f(90, 0, seen+"the baseline had 0 of the 100 requests that comparing needs")
}

// The first events of a version were its failures, told of at once, while its successes
// took their time. A limit of its failure rate took them for all requests there were.
func TestFailuresThatComeBeforeSuccesses(t *testing.T) {
	p := limits(0.02, 0)
	p.MinRequests = 1
	deployments := split90(10)
	blocks := seconds(epoch.Add(-240*time.Second), 240, func(int) (c, b schema.RateBlock) { return schema.RateBlock{}, counted2(1000, 0) })
	blocks = append(blocks, seconds(epoch, 10, func(int) (c, b schema.RateBlock) { return counted2(1, 1), counted2(900, 0) })...)
	e := evidenceOf(p)
	now := epoch.Add(10 * time.Second)
	e.fold(blocks, now.Add(-settleAfter), deployments)
	if a := e.look(blocks, now, deployments).assess(false); a.Verdict == deploy.VerdictFail {
		t.Errorf("failed by 10 of some 1,000 requests: %s", a.Sentence)
	}
}

// Of seconds that are not settled the share is not below what was configured: the
// baseline's events may be there first.
func TestShareOfLateEvents(t *testing.T) {
	of := [2]tally{{requests: 1}, {requests: 99}}
	if got := realised(of, 0.1, true); got != 0.1 {
		t.Errorf("share %v, want the configured one", got)
	}
	if got := realised(of, 0.1, false); got != 0.01 {
		t.Errorf("settled share %v", got)
	}
	if got := realised([2]tally{{requests: 30}, {requests: 70}}, 0.1, true); got != 0.3 {
		t.Errorf("share %v, want the realised one", got)
	}
}

func TestConfigured(t *testing.T) {
	first, small, large := person(split{v1: 100}), person(split{v1: 90, v2: 10}), person(split{v1: 50, v2: 50})
	deployments := history(large, small, first)
	f := func(at time.Time, want float64, wantSteady bool) {
		t.Helper()
		share, steady := configured(deployments, trial{candidate: v2, baseline: v1}, at)
		if share != want || steady != wantSteady {
			t.Errorf("at %v: %v, steady %v; want %v, %v", at.Sub(epoch), share, steady, want, wantSteady)
		}
	}
	f(at(0).Add(-time.Hour), 0, false) // nobody had the script yet
	f(at(0).Add(10*time.Second), 0, true)
	f(at(1), 0.1, false)
	f(at(1).Add(-time.Second), 0, true)
	f(at(1).Add(transition), 0.1, true)
	f(at(2).Add(transition-time.Second), 0.5, false)
	f(at(2).Add(time.Hour), 0.5, true)

	for len(deployments) < deploy.WatchedDeployments {
		deployments = append(deployments, deployments[len(deployments)-1])
	}
	f(at(0).Add(-time.Hour), 1, false) // there may be older ones
	f(at(1), 0.1, false)
}

func TestSeriesIsThinnedEvenly(t *testing.T) {
	var s series
	for i := range 100_000 {
		s.add(epoch.Add(time.Duration(i)*time.Second), float64(i))
	}
	points := s.until(epoch.Add(100_000*time.Second), 1)
	if len(points) > seriesMax || len(points) < seriesMax/2 {
		t.Fatalf("%d points", len(points))
	}
	step := points[1].At.Sub(points[0].At)
	for i := 2; i < len(points)-1; i++ {
		if points[i].At.Sub(points[i-1].At) != step {
			t.Errorf("point %d is %v after the last, others %v", i, points[i].At.Sub(points[i-1].At), step)
		}
	}
}

// FuzzEvidence: whatever the counts and times, there is a verdict, in finite numbers, and
// a fail has a limit and enough requests.
func FuzzEvidence(f *testing.F) {
	f.Add(uint16(30), int64(10), int64(2), int64(90), int64(0), int64(0), uint8(0))
	f.Add(uint16(300), int64(1), int64(1), int64(0), int64(0), int64(-200), uint8(1))
	f.Add(uint16(2), int64(math.MaxInt64), int64(math.MaxInt64), int64(math.MaxInt64), int64(0), int64(7), uint8(2))
	f.Add(uint16(20), int64(-5), int64(3), int64(9), int64(10), int64(90), uint8(3))
	f.Fuzz(func(t *testing.T, n uint16, requests, failures, baseRequests, baseFailures, shift int64, kind uint8) {
		p := limits(0.02, 1)
		p.MaxP99WallMs, p.MaxP50WallRatio, p.MinTrafficRatio = new(100.0), new(2.0), new(0.5)
		if kind%2 == 1 {
			p.Evidence, p.BlockSeconds = deploy.EvidenceBlocks, 3
		}
		shift %= 1000
		e := evidenceOf(p)
		blocks := seconds(epoch.Add(time.Duration(shift)*time.Second), int(n%600), func(int) (c, b schema.RateBlock) {
			c, b = counted2(requests, failures), counted2(baseRequests, baseFailures)
			c.Wall, b.Wall = schema.Durations{5: requests, 500: failures}, schema.Durations{5: baseRequests}
			return c, b
		})
		now := epoch.Add(time.Duration(shift+int64(n%600)) * time.Second)
		e.judgeStep(epoch.Add(3 * time.Second))
		e.fold(blocks, now.Add(-settleAfter), split90(10))
		a := e.look(blocks, now, split90(10)).assess(false)
		if a.Verdict == "" || a.Sentence == "" {
			t.Errorf("no verdict: %+v", a)
		}
		for _, one := range a.Evidence {
			if math.IsNaN(one.LogE) || math.IsInf(one.LogE, 0) || math.IsNaN(one.Expected) || math.IsInf(one.Expected, 0) || !(one.PValue >= 0 && one.PValue <= 1) {
				t.Errorf("evidence %+v", one)
			}
		}
		if a.Verdict == deploy.VerdictFail && (a.Metric == "" || a.Numbers.Limit == nil || requests <= 0 && a.Metric != deploy.MetricTraffic) {
			t.Errorf("failed without reason: %+v", a)
		}
	})
}
