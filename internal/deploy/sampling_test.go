package deploy

import (
	"math"
	"strings"
	"testing"
)

func TestSamplingRates(t *testing.T) {
	for _, rate := range []float64{1e-9, 0.01, 1} {
		if err := (Sampling{rate}).Validate(); err != nil {
			t.Errorf("rate %v: %v", rate, err)
		}
	}
	for _, rate := range []float64{0, -0.1, 1.0001, math.NaN(), math.Inf(1)} {
		if err := (Sampling{rate}).Validate(); err == nil {
			t.Errorf("rate %v is accepted", rate)
		}
	}
}

// A gateway that could not tell which events stand for others must not begin.
func TestSnapshotWithABadSamplingRateIsRefused(t *testing.T) {
	s := Snapshot{Revision: 1, Scripts: []SnapshotScript{{AccountID: "a", Subdomain: "dev", Name: "shop", HeadSamplingRate: 2}}}
	if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "head_sampling_rate is 2") {
		t.Errorf("the error is %v", err)
	}
	s.Scripts[0].HeadSamplingRate = 0 // as before there were rates
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
}
