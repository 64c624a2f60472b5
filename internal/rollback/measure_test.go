package rollback

import (
	"math/rand/v2"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// One event that stands for many requests is a part of one in the reference, not nothing: a
// slow event of a second in which many were sampled out counts like a fast one.
func TestReferenceOfSampledEvents(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	p := limits(0, 0)
	p.MaxP99WallRatio = new(1.5)
	m := newMeasure(p.Limits()[0], 0.001)
	const fast, slowest = 80, 120
	for range 1800 { // seconds of 1,000 requests, of which one in a hundred is kept
		b := schema.RateBlock{Wall: schema.Durations{}}
		stands := int64(0)
		for range 1000 {
			if stands++; r.Float64() < 0.99 {
				continue
			}
			bucket := uint16(fast)
			if r.Float64() < 0.015 {
				bucket = slowest
			}
			b.Wall[bucket] += stands
			b.Requests += stands
			b.SampledOut = max(b.SampledOut, stands-1)
			stands = 0
		}
		m.collect(&b)
	}
	m.compare()
	if !m.known || m.above[baseline] != slowest {
		t.Errorf("p99 of the baseline is in bucket %d, known %v; 1.5 %% of the requests are in bucket %d", m.above[baseline], m.known, slowest)
	}
}

// Kinds of failures are unknown of a version in seconds in which it failed. Were these
// left out, equally good versions would differ.
func TestUnknownKindsSpeakForTheCandidate(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for _, unknown := range []int{candidate, baseline} {
		p := limits(0, 1)
		p.Count, p.MinRequests = deploy.CountExceptions, 20
		p.MaxP99WallMs = new(500.0)
		e := evidenceOf(p)
		known, all := 0.0, 0.0
		e.fold(seconds(epoch, 3600, func(int) (c, b schema.RateBlock) {
			of := [2]schema.RateBlock{candidate: wall(10, 0, 100, 900), baseline: wall(90, 0, 100, 900)}
			for i := range of {
				of[i].Exceptions = binomial(r, of[i].Requests, 0.02)
				of[i].Failures = of[i].Exceptions
			}
			all++
			if one := &of[unknown]; one.Failures > 0 && r.Float64() < 0.8 {
				one.Exceptions, one.KindsUnknown = 0, true
			} else {
				known++
			}
			return of[candidate], of[baseline]
		}), epoch.Add(time.Hour), split90(10))
		e.closeUnit(e.at)
		want := all
		if unknown == candidate {
			want = known
		}
		if got := [2]float64{e.base[candidate].requests, e.base[baseline].requests}; got != [2]float64{10 * want, 90 * want} {
			t.Errorf("kinds of version %d unknown: %v requests count, want those of %v seconds", unknown, got, want)
		}
		if got := e.measures[1].total.trials; got != 10*all {
			t.Errorf("kinds of version %d unknown: %v durations count, want all of %v", unknown, got, 10*all)
		}
		a := e.assess(false)
		if a.Verdict != deploy.VerdictPass || a.Unproven == "" {
			t.Errorf("kinds of version %d unknown: %s: %s", unknown, a.Verdict, a.Sentence)
		}
		if high := bounded(a.Evidence, a.measures)[0].High; high != nil && *high < 1 {
			t.Errorf("kinds of version %d unknown: a ratio of 1 is said to be at most %v", unknown, *high)
		}
	}
}
