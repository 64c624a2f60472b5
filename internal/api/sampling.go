package api

import "tidegate/internal/deploy"

func decodeSampling(text []byte) (deploy.Sampling, error) {
	var body struct {
		HeadSamplingRate *float64 `json:"head_sampling_rate"`
	}
	if err := decodeStrict(text, &body); err != nil {
		return deploy.Sampling{}, err
	}
	rate, err := given("head_sampling_rate", body.HeadSamplingRate)
	if err != nil {
		return deploy.Sampling{}, err
	}
	sampling := deploy.Sampling{HeadSamplingRate: rate}
	return sampling, sampling.Validate()
}

func (s *Server) getSampling(r *request) (any, error) {
	return s.deps.Scripts.Sampling(r.ctx, r.account, r.script())
}

func (s *Server) putSampling(r *request) (any, error) {
	text, err := r.body()
	if err != nil {
		return nil, err
	}
	sampling, err := decodeSampling(text)
	if err != nil {
		return nil, err
	}
	return sampling, s.deps.Scripts.SaveSampling(r.ctx, r.account, r.script(), sampling)
}
