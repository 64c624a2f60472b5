package rollback

import (
	"math/rand/v2"
	"testing"

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
