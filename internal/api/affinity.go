package api

import "tidegate/internal/deploy"

func decodeAffinity(text []byte) (deploy.Affinity, error) {
	var a deploy.Affinity
	if err := decodeStrict(text, &a); err != nil {
		return deploy.Affinity{}, err
	}
	return a, a.Validate()
}

func (s *Server) getAffinity(r *request) (any, error) {
	return s.deps.Scripts.Affinity(r.ctx, r.account, r.script())
}

func (s *Server) putAffinity(r *request) (any, error) {
	text, err := r.body()
	if err != nil {
		return nil, err
	}
	a, err := decodeAffinity(text)
	if err != nil {
		return nil, err
	}
	return a, s.deps.Scripts.SaveAffinity(r.ctx, r.account, r.script(), a)
}

func (s *Server) deleteAffinity(r *request) (any, error) {
	return nil, s.deps.Scripts.DeleteAffinity(r.ctx, r.account, r.script())
}
