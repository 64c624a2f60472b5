package deploy

import "tidegate/internal/errs"

// Sampling says how many of a script's requests leave a trace event of their own.
// The others are counted in the events that do (schema.Gateway.SampledOut), and
// failures are never among them. The zero Sampling is not valid: a script for which
// nobody has said anything has DefaultSampling.
type Sampling struct {
	// HeadSamplingRate is the share that is kept, above 0 and at most 1.
	HeadSamplingRate float64 `json:"head_sampling_rate"`
}

// DefaultSampling keeps every event.
func DefaultSampling() Sampling { return Sampling{HeadSamplingRate: 1} }

// Validate returns an invalid *errs.Error that names the member with a bad value.
func (s Sampling) Validate() error {
	if s.HeadSamplingRate > 0 && s.HeadSamplingRate <= 1 { // not so for NaN
		return nil
	}
	return errs.New(errs.Invalid, 0, "head_sampling_rate is %v: it must be above 0 and at most 1, such as 0.01 for one request in a hundred", s.HeadSamplingRate).At("/head_sampling_rate")
}
