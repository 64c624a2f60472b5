package api

import "tidegate/internal/deploy"

// The rules of an account for all of its scripts have no script in their path, and so
// an empty one.

func decodeRedaction(text []byte) (deploy.Redaction, error) {
	var rules deploy.Redaction
	if err := decodeStrict(text, &rules); err != nil {
		return deploy.Redaction{}, err
	}
	return rules, rules.Validate()
}

func (s *Server) getRedaction(r *request) (any, error) {
	return s.deps.Scripts.Redaction(r.ctx, r.account, r.script())
}

func (s *Server) putRedaction(r *request) (any, error) {
	text, err := r.body()
	if err != nil {
		return nil, err
	}
	rules, err := decodeRedaction(text)
	if err != nil {
		return nil, err
	}
	return rules, s.deps.Scripts.SaveRedaction(r.ctx, r.account, r.script(), rules)
}

func (s *Server) deleteRedaction(r *request) (any, error) {
	return nil, s.deps.Scripts.DeleteRedaction(r.ctx, r.account, r.script())
}
