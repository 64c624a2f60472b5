package main

import (
	"math"

	"tidegate/internal/rollback/sequential"
)

const (
	alpha = 0.001 // confidence 0.999, the default of a policy

	// Defaults of a policy: internal/deploy.
	lookBackSeconds = 300
	requestsMin     = 20
	// failuresMin of the candidate before anything is done: internal/rollback.
	failuresMin = 3
)

// method is one way to watch a deployment. It is told each second after it is over,
// and answers whether it would roll back now.
type method interface{ observe(s second) bool }

func newTest() sequential.Test { return sequential.New(alpha) }

// held holds a test back as the controller does.
type held struct{ requests, failures int }

func (h *held) enough(s second) bool {
	h.requests += s.requests
	h.failures += s.failures
	return h.requests >= requestsMin && h.failures >= failuresMin
}

// byRequests is max_failure_ratio: 1 with evidence: requests.
type byRequests struct {
	held
	test sequential.Test
	at   int
}

func newByRequests(level float64) *byRequests { return &byRequests{test: sequential.New(level)} }

func (m *byRequests) observe(s second) bool {
	if m.at++; m.at%lookBackSeconds == 0 {
		m.test.Restart()
	}
	if s.requests+s.baseRequests > 0 {
		m.test.Add(float64(s.failures), float64(s.failures+s.baseFailures), sequential.RatioNull(s.share(), 1))
	}
	return m.enough(s) && m.test.Rejects()
}

// byBlocks is max_failure_ratio: 1 with evidence: blocks.
type byBlocks struct {
	held
	test   sequential.Test
	length int
	at     int
	block  second
	// labels takes the share of the block's failures that are the candidate's for the
	// observation, instead of comparing rates.
	labels bool
}

func newByBlocks(length int) *byBlocks {
	return &byBlocks{test: newTest(), length: length}
}

func (m *byBlocks) observe(s second) bool {
	enough := m.enough(s)
	m.block.requests += s.requests
	m.block.failures += s.failures
	m.block.baseRequests += s.baseRequests
	m.block.baseFailures += s.baseFailures
	if m.at++; m.at%m.length == 0 {
		m.add(m.block)
		m.block = second{}
	}
	if m.at%lookBackSeconds == 0 {
		m.test.Restart()
	}
	return enough && m.test.Rejects()
}

func (m *byBlocks) add(b second) {
	if m.labels {
		if failures := b.failures + b.baseFailures; failures > 0 {
			m.test.AddMean(float64(b.failures)/float64(failures), sequential.RatioNull(b.share(), 1))
		}
		return
	}
	mean, q, ok := sequential.RatioMean(float64(b.failures), float64(b.requests), float64(b.baseFailures), float64(b.baseRequests), 1)
	if ok {
		m.test.AddMean(mean, q)
	}
}

// byLimit is a limit of a share of the candidate's own requests: max_failure_rate, or
// the share of requests that may be slower than a limit of a quantile.
type byLimit struct {
	held
	test sequential.Test
	q    float64
	at   int
}

func (m *byLimit) observe(s second) bool {
	if m.at++; m.at%lookBackSeconds == 0 {
		m.test.Restart()
	}
	m.test.Add(float64(s.failures), float64(s.requests), m.q)
	return m.enough(s) && m.test.Rejects()
}

// byTraffic is min_traffic_ratio. It is not held back: what is missing does not count
// as a request or a failure.
type byTraffic struct {
	test         sequential.Test
	share, limit float64
	at           int
}

func (m *byTraffic) observe(s second) bool {
	if m.at++; m.at%lookBackSeconds == 0 {
		m.test.Restart()
	}
	m.test.Add(float64(s.baseRequests), float64(s.baseRequests+s.requests), sequential.TrafficNull(m.share, m.limit))
	return m.test.Rejects()
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

// zTest is the test of two proportions of the textbooks, one-sided at alpha, looked at
// every second, as if that did not matter. It is held back as ours is.
type zTest struct {
	held
	base second
}

// zCritical is the quantile of the normal distribution at 1 − alpha.
const zCritical = 3.090232

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
	return deviation > 0 && difference/deviation > zCritical
}
