package api

import "tidegate/internal/deploy"

func decodeSampling(text []byte) (deploy.Sampling, error) {
	var sampling deploy.Sampling
	if err := decodeStrict(text, &sampling); err != nil {
		return deploy.Sampling{}, err
	}
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
