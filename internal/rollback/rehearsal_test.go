package rollback

import (
	"math/rand/v2"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// A rehearsal leaves out looks; it fails in the same second as one that leaves out none, and
// not before or after.
func TestRehearsalLeavesOutNoFailure(t *testing.T) {
	var failed, kept int
	f := func(name string, of func(r *rand.Rand, i int) (c, b schema.RateBlock), set func(p *deploy.RollbackPolicy)) {
		t.Helper()
		for round := range 3 {
			p := limits(0, 0)
			p.Confidence, p.MinRequests, p.LookBackSeconds = 0.8, 5, 40
			set(&p)
			deployments := split90(10)
			half := person(split{v1: 50, v2: 50})
			half.CreatedOn, half.AuthorEmail = epoch.Add(100*time.Second), Author
			deployments = append([]deploy.Deployment{half}, deployments...)
			rehearsal, err := NewRehearsal(p, deployments)
			if err != nil {
				t.Fatal(err)
			}
			e := newEvidence(rehearsal.settled.scope, p, epoch)
			r := rand.New(rand.NewPCG(21, uint64(round)))
			var all []schema.RateBlock
			for i := range 240 {
				blocks := seconds(epoch.Add(time.Duration(i)*time.Second), 1, func(int) (c, b schema.RateBlock) { return of(r, i) })
				all = append(all, blocks...)
				now := epoch.Add(time.Duration(i+1) * time.Second)
				e.fold(all, settledAt(now), deployments)
				want := e.look(all, now, deployments).assess(false).Verdict == deploy.VerdictFail
				if got := rehearsal.Fails(blocks[0].Time, blocks); got != want {
					t.Fatalf("%s: in round %d after %d s the rehearsal fails: %v, a look: %v", name, round, i+1, got, want)
				}
				if want {
					failed++
				} else {
					kept++
				}
			}
		}
	}
	drawn := func(perSecond, c, b float64) func(r *rand.Rand, i int) (schema.RateBlock, schema.RateBlock) {
		return func(r *rand.Rand, i int) (schema.RateBlock, schema.RateBlock) {
			share := 0.1
			if i >= 100 {
				share = 0.5
			}
			n := poisson(r, perSecond)
			k := binomial(r, n, share)
			one, other := counted2(k, binomial(r, k, c)), counted2(n-k, binomial(r, n-k, b))
			one.Wall = schema.Durations{10: one.Requests - one.Failures, 200: one.Failures}
			other.Wall = schema.Durations{10: other.Requests - other.Failures, 200: other.Failures}
			return one, other
		}
	}
	ratio := func(p *deploy.RollbackPolicy) { p.MaxFailureRatio = new(1.0) }
	f("few requests", drawn(3, 0.2, 0.1), ratio)
	f("a unit a second", drawn(100, 0.03, 0.02), ratio)
	f("rate", drawn(20, 0.08, 0.05), func(p *deploy.RollbackPolicy) { p.MaxFailureRate = new(0.05) })
	f("latency", drawn(20, 0.03, 0.01), func(p *deploy.RollbackPolicy) { p.MaxP99WallMs = new(100.0) })
	f("ratio of latency", drawn(60, 0.08, 0.01), func(p *deploy.RollbackPolicy) { p.MaxP50WallRatio = new(1.0) })
	f("traffic", drawn(30, 0, 0), func(p *deploy.RollbackPolicy) { p.MinTrafficRatio = new(0.999) })
	f("blocks", drawn(30, 0.2, 0.1), func(p *deploy.RollbackPolicy) {
		ratio(p)
		p.Evidence, p.BlockSeconds = deploy.EvidenceBlocks, 10
	})
	f("two limits", drawn(30, 0.05, 0.02), func(p *deploy.RollbackPolicy) {
		ratio(p)
		p.MaxFailureRate = new(0.03)
	})
	if failed < 100 || kept < 100 {
		t.Errorf("%d looks failed, %d did not: nothing was compared", failed, kept)
	}
}

func TestNothingToRehearse(t *testing.T) {
	if _, err := NewRehearsal(limits(0, 1), history(person(split{v1: 100}))); err == nil {
		t.Error("a script with one version is rehearsed")
	}
}
