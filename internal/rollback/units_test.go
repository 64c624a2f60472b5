package rollback

import (
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// A look-back time that is shorter than the time between requests does not cut what is
// compared into single requests, of which none says anything.
func TestShortLookBackKeepsUnitsWhole(t *testing.T) {
	for _, lookBack := range []int64{1, 5, 300} {
		p := limits(0, 1)
		p.MinRequests, p.LookBackSeconds = 20, lookBack
		e := evidenceOf(p)
		var blocks []schema.RateBlock
		for i := range 3600 {
			at := epoch.Add(time.Duration(i) * time.Second)
			switch i % 10 {
			case 0:
				blocks = append(blocks, schema.RateBlock{VersionID: v2, Time: at, Requests: 1, Failures: 1})
			case 5:
				blocks = append(blocks, schema.RateBlock{VersionID: v1, Time: at, Requests: 1})
			}
		}
		e.fold(blocks, epoch.Add(time.Hour), split90(50))
		if a := e.assess(false); a.Verdict != deploy.VerdictFail {
			t.Errorf("look-back of %d s: %s: %s, evidence %v", lookBack, a.Verdict, a.Sentence, a.Evidence[0].LogE)
		}
		e.closeUnit(e.at)
		if want := int(3600/lookBack) + 1; e.starts != want {
			t.Errorf("look-back of %d s: %d starts, want %d", lookBack, e.starts, want)
		}
	}
}

// The block in which a step begins is of the step before.
func TestStepBeginsWithABlock(t *testing.T) {
	p := limits(0, 1)
	p.Evidence, p.BlockSeconds = deploy.EvidenceBlocks, 600
	p.MinRequests, p.LookBackSeconds = 100, 3600
	e := evidenceOf(p)
	e.judgeStep(epoch.Add(1190 * time.Second)) // ten seconds before its block ends
	blocks := seconds(epoch, 1900, func(int) (c, b schema.RateBlock) { return counted2(1, 0), counted2(9, 0) })
	f := func(at int, want deploy.Verdict, wantRequests int64) {
		t.Helper()
		now := epoch.Add(time.Duration(at) * time.Second)
		e.fold(blocks, now.Add(-settleAfter), split90(10))
		a := e.look(blocks, now, split90(10)).assess(false)
		requests := int64(0)
		if a.Numbers.Requests != nil {
			requests = *a.Numbers.Requests
		}
		if a.Verdict != want || requests != wantRequests {
			t.Errorf("after %d s: %s: %s; %d requests of the step, want %s with %d", at, a.Verdict, a.Sentence, requests, want, wantRequests)
		}
	}
	f(1205, deploy.VerdictInconclusive, 0)
	f(1211, deploy.VerdictInconclusive, 0)
	f(1809, deploy.VerdictInconclusive, 0)
	f(1811, deploy.VerdictPass, 600)
}

// An outage that both versions have, and during which the split changes, makes their rates
// differ over the whole block, but not over the part since the change.
func TestBlockIsOfOneSplit(t *testing.T) {
	p := limits(0.5, 1)
	p.Evidence, p.BlockSeconds = deploy.EvidenceBlocks, 60
	e := evidenceOf(p)
	before := split90(10)
	half := person(split{v1: 50, v2: 50})
	half.CreatedOn = epoch.Add(90 * time.Second)
	half.AuthorEmail = Author
	e.fold(seconds(epoch, 180, func(i int) (c, b schema.RateBlock) {
		if i < 90 {
			return counted2(10, 0), counted2(90, 0)
		}
		return counted2(50, 25), counted2(50, 25)
	}), epoch.Add(180*time.Second), append([]deploy.Deployment{half}, before...))

	const since, first = 30 - float64(transition/time.Second), 60 - float64(transition/time.Second) // seconds of blocks 2 and 1
	want := [2]tally{{50*60 + 50*since, 25*60 + 25*since}, {50*60 + 50*since, 25*60 + 25*since}}
	for _, m := range e.measures {
		want := want
		if m.kind == absolute { // of which a block without failures is an observation, too
			want[candidate].requests += 10 * first
			want[baseline].requests += 90 * first
		}
		if m.total.of != want {
			t.Errorf("%s: %+v, want %+v", m.limit.Metric, m.total.of, want)
		}
	}
	if got := e.base[candidate].requests + e.base[baseline].requests; got != 180*100 {
		t.Errorf("%v requests are shown, want all", got)
	}
}

// While gateways go over from one split to another, seconds are not put together: an outage of
// both versions in the later ones, which have more of the new version's requests, would else look
// like failures of the new version alone.
func TestSecondsOfAChangeAreApart(t *testing.T) {
	e := evidenceOf(limits(0, 1))
	half := person(split{v1: 50, v2: 50})
	half.CreatedOn = epoch.Add(60 * time.Second)
	half.AuthorEmail = Author
	e.fold(seconds(epoch, 90, func(i int) (c, b schema.RateBlock) {
		switch {
		case i < 63:
			return counted2(1, 0), counted2(9, 0)
		case i < 65:
			return counted2(5, 5), counted2(5, 5)
		}
		return counted2(5, 0), counted2(5, 0)
	}), epoch.Add(90*time.Second), append([]deploy.Deployment{half}, split90(10)...))
	if got := e.measures[0].test.LogE(); got > 0 {
		t.Errorf("an outage of both versions is evidence: %v", got)
	}
}
