package rollback

import (
	"errors"
	"slices"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// Rehearsal judges a version second by second as a controller does that looks once after each
// second, with neither rates nor a store: seconds that are settled count for good, and
// younger ones are looked at with the same caution. Every event comes in the second in which it
// is counted. A simulation (bench/rollback) so plays what ships. It has one owner at a
// time.
type Rehearsal struct {
	deployments []deploy.Deployment
	settled     *evidence
	// most is the evidence if every second were settled as soon as it is over. Shares that
	// are not settled, and requests that are still expected, only lower what a look finds,
	// so it tells which looks are worth the two minutes that each of them folds.
	most   *evidence
	recent []schema.RateBlock // of the seconds that settled lacks
}

// NewRehearsal begins with what the deployments, newest first, have on trial. Those of later
// seconds may be among them: each second knows only what was deployed before its end.
func NewRehearsal(policy deploy.RollbackPolicy, deployments []deploy.Deployment) (*Rehearsal, error) {
	w := &deploy.Watched{Policy: policy, Deployments: deployments}
	trials := trialsOf(deployments)
	if len(trials) != 1 {
		return nil, errors.New("rehearse a trial: the deployments must have one version that is newer than the one before")
	}
	s := scopeOf(w, trials[0])
	return &Rehearsal{deployments: deployments, settled: newEvidence(s, policy, s.from), most: newEvidence(s, policy, s.from)}, nil
}

// Fails takes the blocks of the next second, and reports whether a look at its end finds
// that the version fails.
func (r *Rehearsal) Fails(second time.Time, blocks []schema.RateBlock) bool {
	now := second.Add(time.Second)
	r.recent = append(r.recent, blocks...)
	settled, seen := settledAt(now), now
	if r.settled.policy.Evidence == deploy.EvidenceBlocks {
		seen = now.Add(-blockLag)
	}
	r.most.fold(from(r.recent, r.most.at), seen, r.deployments)
	r.settled.fold(r.recent, settled, r.deployments)
	r.recent = from(r.recent, settled)
	if !r.mayFail() {
		return false
	}
	return r.settled.look(r.recent, now, r.deployments).assess(false).Verdict == deploy.VerdictFail
}

// from are the blocks, in the order of time, that do not lie before a time.
func from(blocks []schema.RateBlock, at time.Time) []schema.RateBlock {
	first, _ := slices.BinarySearchFunc(blocks, at, func(b schema.RateBlock, at time.Time) int { return b.Time.Compare(at) })
	return blocks[first:]
}

// mayFail is false of most looks that cannot find a failure. Missing traffic is evidence
// only once it is settled; of ratios of quantiles not all evidence is, so those are always
// looked at.
func (r *Rehearsal) mayFail() bool {
	const rounding = 1e-6
	for i, m := range r.most.seen().measures {
		if m.kind == relative && m.quantile > 0 || max(m.logE(), r.settled.measures[i].logE()) >= m.test.Threshold()-rounding {
			return true
		}
	}
	return false
}
