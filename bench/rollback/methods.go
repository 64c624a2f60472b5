package main

import (
	"math"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/rollback"
	"tidegate/internal/rollback/sequential"
	"tidegate/schema"
)

// alpha is that of a policy's default confidence.
const alpha = 1 - deploy.DefaultConfidence

// method is one way to watch a deployment. It is told each second after it is over,
// and answers whether it would roll back now.
type method interface{ observe(s second) bool }

// maker makes a method for the next deployment of a scenario.
type maker func(s *scenario) method

// held holds a test back as the controller does.
type held struct{ requests, failures int }

func (h *held) enough(s second) bool {
	h.requests += s.requests
	h.failures += s.failures
	return h.requests >= deploy.DefaultMinRequests && h.failures >= rollback.HitsMin
}

// product is what ships: the evidence of internal/rollback, its units and looks, under a
// policy. slow says that what fails in the scenario is slow here.
type product struct {
	rehearsal *rollback.Rehearsal
	at        time.Time
	slow      bool
	blocks    []schema.RateBlock
}

// shipped watches by the defaults of a policy and what is set.
func shipped(set func(p *deploy.RollbackPolicy)) maker {
	policy := deploy.DefaultPolicy()
	policy.Enabled = true
	set(&policy)
	return func(s *scenario) method {
		r, err := rollback.NewRehearsal(policy, s.deployments)
		if err != nil {
			panic(err) // each scenario has a trial
		}
		return &product{rehearsal: r, at: start, slow: policy.MaxP99WallMs != nil}
	}
}

// byRequests is max_failure_ratio: 1, at a level.
func byRequests(level float64) maker {
	return shipped(func(p *deploy.RollbackPolicy) { p.MaxFailureRatio, p.Confidence = new(1.0), 1-level })
}

// byBlocks is the same with evidence: blocks, of so many seconds, at the default level.
func byBlocks(length int64) maker {
	return shipped(func(p *deploy.RollbackPolicy) {
		p.MaxFailureRatio, p.Evidence, p.BlockSeconds = new(1.0), deploy.EvidenceBlocks, length
	})
}

func (m *product) observe(s second) bool {
	m.blocks = m.blocks[:0]
	for _, b := range []schema.RateBlock{
		{VersionID: oldVersion, Requests: int64(s.baseRequests), Failures: int64(s.baseFailures)},
		{VersionID: newVersion, Requests: int64(s.requests), Failures: int64(s.failures)},
	} {
		if b.Time = m.at; b.Requests == 0 {
			continue
		}
		if m.slow {
			b.Wall = schema.Durations{schema.DurationBucket(limitMs): b.Requests - b.Failures, schema.DurationBucket(2 * limitMs): b.Failures}
			b.Failures = 0
		}
		m.blocks = append(m.blocks, b)
	}
	fails := m.rehearsal.Fails(m.at, m.blocks)
	m.at = m.at.Add(time.Second)
	return fails
}

// byLabels takes, of each block of ten seconds, the share of failures that are the
// candidate's for one observation. It does not ship, and is here to show why.
type byLabels struct {
	held
	test  sequential.Test
	at    int
	block second
}

func (m *byLabels) observe(s second) bool {
	enough := m.enough(s)
	m.block.requests += s.requests
	m.block.failures += s.failures
	m.block.baseRequests += s.baseRequests
	m.block.baseFailures += s.baseFailures
	if m.at++; m.at%deploy.DefaultBlockSeconds == 0 {
		if failures := m.block.failures + m.block.baseFailures; failures > 0 {
			m.test.AddMean(float64(m.block.failures)/float64(failures), sequential.RatioNull(m.block.share(), 1))
		}
		m.block = second{}
	}
	if m.at%deploy.DefaultLookBackSeconds == 0 {
		m.test.Restart()
	}
	return enough && m.test.Rejects()
}

// window is a check of the candidate's failure rate in windows of fixed length: it rolls
// back when so many checks have failed.
type window struct {
	seconds     int
	rateMax     float64
	failedMax   int
	emptyFails  bool // a window without a request counts as a failed check
	nextRun     bool // acts when the next check is due, not at once
	at, failed  int
	inIt, badIn int
}

// newFlagger has the values of Flagger's documentation: a check a minute of the last
// minute, 99 % successful at least, 10 failed checks in all. One that has no values fails,
// and the rollback comes with the check after the last failed one. interval: 1m, threshold:
// 10, request-success-rate min: 99 are in fluxcd/flagger docs/gitbook/usage/how-it-works.md;
// the rest in pkg/controller/scheduler.go and scheduler_metrics.go. The field threshold by
// itself defaults to 1, the interval to 60 s (pkg/apis/flagger/v1beta1/canary.go).
func newFlagger(threshold int) *window {
	return &window{seconds: 60, rateMax: 0.01, failedMax: threshold, emptyFails: true, nextRun: true}
}

// newArgo has the values of Argo Rollouts' documentation: every five minutes the rate of
// the last five minutes, 95 % successful at least, failed when more than failureLimit
// measurements have. interval: 5m, successCondition: result[0] >= 0.95 and failureLimit:
// 3 are in argoproj/argo-rollouts docs/features/analysis.md; "more than" and the default of
// 0 in analysis/analysis.go, assessMetricStatus. Its query is an irate, which sees
// only the last two samples of Prometheus; the mean of the window is kinder to it.
func newArgo(failureLimit int) *window {
	return &window{seconds: 300, rateMax: 0.05, failedMax: failureLimit + 1}
}

func (w *window) observe(s second) bool {
	w.inIt += s.requests
	w.badIn += s.failures
	if w.at++; w.at%w.seconds != 0 {
		return false
	}
	if w.nextRun && w.failed >= w.failedMax {
		return true
	}
	if w.inIt == 0 && w.emptyFails || float64(w.badIn) > w.rateMax*float64(w.inIt) {
		w.failed++
	}
	w.inIt, w.badIn = 0, 0
	return !w.nextRun && w.failed >= w.failedMax
}

// zTest is the test of two proportions of the textbooks, one-sided, looked at every
// second as if that did not matter. It is held back as ours is.
type zTest struct {
	held
	base     second
	critical float64
}

// newZTest rejects at a level; critical is the normal quantile at 1 − level.
func newZTest(level float64) *zTest { return &zTest{critical: math.Sqrt2 * math.Erfinv(1-2*level)} }

func (z *zTest) observe(s second) bool {
	enough := z.enough(s)
	z.base.baseRequests += s.baseRequests
	z.base.baseFailures += s.baseFailures
	if !enough || z.base.baseRequests == 0 {
		return false
	}
	n, b := float64(z.requests), float64(z.base.baseRequests)
	pooled := float64(z.failures+z.base.baseFailures) / (n + b)
	deviation := math.Sqrt(pooled * (1 - pooled) * (1/n + 1/b))
	difference := float64(z.failures)/n - float64(z.base.baseFailures)/b
	return deviation > 0 && difference/deviation > z.critical
}
