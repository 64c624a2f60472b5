package api

import (
	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// policyBody is a policy as it is sent: members that are left out have their
// defaults.
type policyBody struct {
	deploy.RollbackPolicy
	Enabled *bool `json:"enabled"`

	MaxP99WallMs *unsupported `json:"max_p99_wall_ms"`
	Confidence   *unsupported `json:"confidence"`
	GraceSeconds *unsupported `json:"grace_seconds"`
	Count        *unsupported `json:"count"`
	Notify       *unsupported `json:"notify"`
}

func decodePolicy(text []byte) (deploy.RollbackPolicy, error) {
	body := policyBody{RollbackPolicy: deploy.DefaultPolicy()}
	if err := decodeStrict(text, &body); err != nil {
		return deploy.RollbackPolicy{}, err
	}
	if body.Enabled == nil {
		return deploy.RollbackPolicy{}, errs.New(errs.Invalid, 0, "enabled is missing: it must be true or false").At("/enabled")
	}
	p := body.RollbackPolicy
	p.Enabled = *body.Enabled
	return p, p.Validate()
}

func (s *Server) getPolicy(r *request) (any, error) {
	return s.deps.Policies.Policy(r.ctx, r.account, r.script())
}

func (s *Server) putPolicy(r *request) (any, error) {
	text, err := r.body()
	if err != nil {
		return nil, err
	}
	p, err := decodePolicy(text)
	if err != nil {
		return nil, err
	}
	return p, s.deps.Policies.SavePolicy(r.ctx, r.account, r.script(), p)
}

func (s *Server) deletePolicy(r *request) (any, error) {
	return nil, s.deps.Policies.DeletePolicy(r.ctx, r.account, r.script())
}

type decisionView struct {
	deploy.RollbackDecision
	At timestamp `json:"at"`
}

func (s *Server) listDecisions(r *request) (any, error) {
	list, err := s.deps.Policies.Decisions(r.ctx, r.account, r.script())
	return views(list, func(d deploy.RollbackDecision) decisionView { return decisionView{d, timestamp(d.At)} }), err
}

type rampView struct {
	deploy.Ramp
	StepStartedAt timestamp  `json:"step_started_at"`
	ResumedAt     *timestamp `json:"resumed_at,omitempty"`
}

func viewRamp(r deploy.Ramp) rampView {
	return rampView{r, timestamp(r.StepStartedAt), optional(r.ResumedAt)}
}

func (s *Server) getRamp(r *request) (any, error) {
	ramp, err := s.deps.Policies.Ramp(r.ctx, r.account, r.script())
	return viewRamp(ramp), err
}

func (s *Server) controlRamp(r *request) (any, error) {
	var body struct {
		Action string `json:"action"`
	}
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	ramp, err := s.deps.Policies.ControlRamp(r.ctx, r.account, r.script(), body.Action)
	return viewRamp(ramp), err
}
