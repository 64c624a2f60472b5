// What is only reckoned, by one goroutine, takes a third of the time without the race detector.

//go:build !race

package rollback

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// The promise, of the code around the tests: the share that was realised or told, late
// events, seconds that are folded anew at each look, and two limits at once. With looks
// this few and cautious, far fewer good versions than the level fail (one of 200 when this
// was written), so it is held to a quarter of the level: at the level itself a test that
// is wrong by a factor of ten would pass. A share that is a fifth too small (28 of 200 are
// failed) or a threshold for four times the level (63) is noticed.
func TestGoodVersionsAreRarelyFailed(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	const trials, alpha, every = 200, 0.2, 16
	f := func(name string, set func(p *deploy.RollbackPolicy), perSecond, failureRate float64) {
		t.Helper()
		failed := 0
		for range trials {
			p := limits(0, 1)
			p.Confidence, p.MinRequests, p.LookBackSeconds = 1-alpha, 1, 30
			set(&p)
			e := evidenceOf(p)
			var blocks []schema.RateBlock
			deployments := split90(10)
			for i := range 200 {
				now := epoch.Add(time.Duration(i) * time.Second)
				n := poisson(r, perSecond)
				c := binomial(r, n, 0.1)
				blocks = append(blocks, seconds(now, 1, func(int) (schema.RateBlock, schema.RateBlock) {
					return counted2(c, binomial(r, c, failureRate)), counted2(n-c, binomial(r, n-c, failureRate))
				})...)
				// Now and then a look in the middle of the events of the last second.
				seen := slices.Clone(blocks)
				if i%every == 5 {
					last := seen[len(seen)-2:]
					last[0].Requests = max(last[0].Requests/2, last[0].Failures)
				}
				settled := now.Add(-settleAfter)
				e.fold(blocks, settled, deployments)
				if i%every == 5 || i == 199 {
					if e.look(seen, now.Add(time.Second), deployments).assess(false).Verdict == deploy.VerdictFail {
						failed++
						break
					}
				}
			}
		}
		if most := trials * alpha / 4; float64(failed) > most {
			t.Errorf("%s: %d of %d good versions failed, at most %.0f are expected", name, failed, trials, most)
		}
	}
	none := func(*deploy.RollbackPolicy) {}
	f("busy", none, 60, 0.05)
	f("quiet", none, 3, 0.2)
	f("one outage", none, 30, 0.9)
	f("at the limit of two", func(p *deploy.RollbackPolicy) { p.MaxFailureRate = new(0.05) }, 40, 0.05)
	f("in blocks", func(p *deploy.RollbackPolicy) { p.Evidence, p.BlockSeconds = deploy.EvidenceBlocks, 10 }, 40, 0.05)
	f("traffic", func(p *deploy.RollbackPolicy) { p.MinTrafficRatio = new(0.9) }, 40, 0.01)
}
