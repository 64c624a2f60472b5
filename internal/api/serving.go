package api

import (
	"time"

	"tidegate/internal/deploy"
)

// servingDecisions is how long a decision that acted is told beside what it left serving.
const servingDecisions = 24 * time.Hour

type servingView struct {
	Script     string               `json:"script"`
	Deployment deploymentView       `json:"deployment"`
	Versions   []deploy.VersionName `json:"versions"`
	Ramp       *rampView            `json:"ramp,omitempty"`
	Decision   *decisionView        `json:"decision,omitempty"`
}

// listServing answers for all scripts at once what a list of them shows, because a
// question for each would be hundreds.
func (s *Server) listServing(r *request) (any, error) {
	list, err := s.deps.Scripts.Serving(r.ctx, r.account, s.now().Add(-servingDecisions))
	return views(list, func(one deploy.Serving) servingView {
		view := servingView{Script: one.Script, Deployment: viewDeployment(one.Deployment), Versions: one.Versions}
		if one.Ramp != nil {
			ramp := viewRamp(*one.Ramp)
			view.Ramp = &ramp
		}
		if one.Decision != nil {
			view.Decision = &decisionView{*one.Decision, timestamp(one.Decision.At), nil}
		}
		return view
	}), err
}
