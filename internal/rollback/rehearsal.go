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
	r := newRehearsal(s, policy, s.from)
	r.deployments = deployments
	return &r, nil
}

// newRehearsal is of one that began to look at a time.
func newRehearsal(s scope, policy deploy.RollbackPolicy, began time.Time) Rehearsal {
	return Rehearsal{settled: newEvidence(s, policy, began), most: newEvidence(s, policy, began)}
}

// Fails takes the blocks of the next second, and reports whether a look at its end finds
// that the version fails.
func (r *Rehearsal) Fails(second time.Time, blocks []schema.RateBlock) bool {
	now := second.Add(time.Second)
	r.take(blocks, now)
	return r.mayFail() && r.look(now).assess(false).Verdict == deploy.VerdictFail
}

// take goes on to the end of a second, of which it takes the blocks.
func (r *Rehearsal) take(blocks []schema.RateBlock, end time.Time) {
	r.recent = append(r.recent, blocks...)
	settled, seen := settledAt(end), end
	if r.settled.policy.Evidence == deploy.EvidenceBlocks {
		seen = end.Add(-blockLag)
	}
	r.most.fold(from(r.recent, r.most.at), seen, r.deployments)
	r.settled.fold(r.recent, settled, r.deployments)
	r.recent = from(r.recent, settled)
}

// look is the evidence in the eyes of a controller that looks now.
func (r *Rehearsal) look(now time.Time) *evidence {
	return r.settled.look(r.recent, now, r.deployments)
}

// from are the blocks, in the order of time, that do not lie before a time.
func from(blocks []schema.RateBlock, at time.Time) []schema.RateBlock {
	first, _ := slices.BinarySearchFunc(blocks, at, func(b schema.RateBlock, at time.Time) int { return b.Time.Compare(at) })
	return blocks[first:]
}

// mayFail is false of looks that cannot find a failure: most of them. Missing traffic is
// evidence only once it is settled. Of a ratio of a quantile a look chooses the same edges as
// most does, and takes what shows that the baseline is below its own from settled seconds alone.
func (r *Rehearsal) mayFail() bool {
	const rounding = 1e-6
	for i, m := range r.most.seen().measures {
		settled := r.settled.measures[i]
		most := max(m.test.LogE(), settled.test.LogE())
		if m.kind == relative && m.quantile > 0 {
			most = min(most, max(m.beyond[candidate].LogE(), settled.beyond[candidate].LogE()), settled.beyond[baseline].LogE())
		}
		if most >= m.test.Threshold()-rounding {
			return true
		}
	}
	return false
}

// seen is the evidence to which a unit that is open counts, too. It takes a copy, and most
// seconds do without: in a unit without a hit of the candidate no test gains by what a look
// takes of it, so it matters only to one that stands at its threshold already.
func (e *evidence) seen() *evidence {
	if e.unit.empty || e.policy.Evidence == deploy.EvidenceBlocks {
		return e
	}
	hit := slices.ContainsFunc(e.unit.of, func(of pair) bool { return of[candidate].hits > 0 })
	if !hit && !slices.ContainsFunc(e.measures, func(m *measure) bool { return m.logE() >= m.test.Threshold() }) {
		return e
	}
	c := e.clone()
	c.takeOpen(c.at)
	return c
}
