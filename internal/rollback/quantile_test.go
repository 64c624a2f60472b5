package rollback

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// durations are log-normal, by their p99 in milliseconds and the deviation of their logarithm.
type durations struct{ p99, sigma float64 }

// above is the chance of a duration above the upper edge of a bucket.
func (d durations) above(bucket uint16) float64 {
	z := (math.Log(schema.DurationEdge(bucket)) - math.Log(d.p99) + 2.3263478740408408*d.sigma) / d.sigma
	return math.Erfc(z/math.Sqrt2) / 2
}

// block draws the slowest three of a hundred requests of a second; the others are as many
// as are to be expected, in one bucket.
func (d durations) block(r *rand.Rand, requests float64) schema.RateBlock {
	low := schema.DurationBucket(d.p99 * math.Exp(-0.4455*d.sigma))
	b := schema.RateBlock{Wall: schema.Durations{low: int64(math.Round(requests * (1 - d.above(low))))}}
	b.Requests = b.Wall[low]
	for bucket, rest := low, d.above(low); rest > 1e-4; bucket++ {
		less := d.above(bucket + 1)
		if n := poisson(r, requests*(rest-less)); n > 0 {
			b.Wall[bucket+1], b.Requests = n, b.Requests+n
		}
		rest = less
	}
	return b
}

// A quantile that is no longer than the limit allows is no reason to act, whatever the
// shapes of the two distributions are and whatever befalls both versions. What compares
// the two above one duration does not know shapes: alone it would act. Twelve rounds show no more
// than that it is not one in four at a level of one in ten.
func TestQuantileRatiosThatAreKept(t *testing.T) {
	const rounds, length = 12, 1000
	f := func(name string, ratio float64, before durations, at func(second int) (candidate, baseline durations), alone bool) {
		t.Helper()
		r := rand.New(rand.NewPCG(11, 11))
		failed, byComparison := 0, 0
		for range rounds {
			p := limits(0, 0)
			p.Confidence, p.MaxP99WallRatio = 0.9, &ratio
			e := evidenceOf(p)
			e.fold(seconds(epoch.Add(-300*time.Second), 300, func(int) (c, b schema.RateBlock) {
				return schema.RateBlock{}, before.block(r, 500)
			}), epoch, split90(20))
			e.fold(seconds(epoch, length, func(i int) (schema.RateBlock, schema.RateBlock) {
				c, b := at(i)
				return c.block(r, 100), b.block(r, 400)
			}), epoch.Add(length*time.Second), split90(20))
			m := e.measures[0]
			if m.pValue() <= 0.1 {
				failed++
			}
			if m.test.Rejects() {
				byComparison++
			}
		}
		if failed > rounds/4 {
			t.Errorf("%s: %d of %d good versions would be failed at level 0.1", name, failed, rounds)
		}
		if alone != (byComparison > rounds/2) {
			t.Errorf("%s: what compares alone would fail %d of %d", name, byComparison, rounds)
		}
	}
	narrow, wide := durations{400, 0.5}, durations{400, 0.8}
	same := func(c, b durations) func(int) (durations, durations) {
		return func(int) (durations, durations) { return c, b }
	}
	f("the same", 1, narrow, same(narrow, narrow), false)
	f("the same p99, a longer tail", 1, narrow, same(wide, narrow), true)
	f("at a limit of two, a longer tail", 2, narrow, same(durations{800, 0.8}, narrow), true)
	f("a shorter tail", 1, wide, same(narrow, wide), false)
	f("both become faster", 1, narrow, same(durations{270, 0.8}, durations{270, 0.5}), true)
	f("both become slower", 1, narrow, same(durations{600, 0.5}, durations{600, 0.5}), false)
	f("an outage of both", 1, narrow, func(second int) (c, b durations) {
		if second/100 == 7 {
			return durations{4000, 0.5}, durations{4000, 0.5}
		}
		return narrow, narrow
	}, false)
}

// What is slower than the limit allows is found, also with a limit that is met by nobody
// but the baseline itself, and where requests are few.
func TestSlowerQuantilesAreFound(t *testing.T) {
	f := func(name string, ratio, perSecond float64, candidate durations, within int) {
		t.Helper()
		r := rand.New(rand.NewPCG(12, 12))
		p := limits(0, 0)
		p.Confidence, p.MaxP99WallRatio = 0.999, &ratio
		e := evidenceOf(p)
		old := durations{400, 0.5}
		e.fold(seconds(epoch.Add(-300*time.Second), 300, func(int) (c, b schema.RateBlock) {
			return schema.RateBlock{}, old.block(r, perSecond)
		}), epoch, split90(10))
		for i := range within {
			at := epoch.Add(time.Duration(i) * time.Second)
			e.fold(seconds(at, 1, func(int) (schema.RateBlock, schema.RateBlock) {
				return candidate.block(r, perSecond/10), old.block(r, perSecond*9/10)
			}), at.Add(time.Second), split90(10))
			if e.assess(false).Verdict == deploy.VerdictFail {
				t.Logf("%s: found after %d s, %d requests", name, i+1, int(e.base[0].requests))
				return
			}
		}
		m := e.measures[0]
		t.Errorf("%s: not found after %d s: %.1f by comparison, %.1f of the candidate, %.1f of the baseline, of %.1f",
			name, within, m.test.LogE(), m.beyond[0].LogE(), m.beyond[1].LogE(), m.test.Threshold())
	}
	f("p99 twice as long at 1,000/s", 1.2, 1000, durations{800, 0.5}, 60)
	f("p99 twice as long at 20/s", 1.2, 20, durations{800, 0.5}, 1800)
	f("p99 half as long again at 200/s", 1, 200, durations{600, 0.5}, 600)
}
