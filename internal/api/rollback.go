package api

import (
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// policyBody is a policy as it is sent: members that are left out have their
// defaults.
type policyBody struct {
	deploy.RollbackPolicy
	Enabled *bool `json:"enabled"`

	// What an answer says of a policy may be sent back, and is not looked at.
	Source     json.RawMessage `json:"source"`
	Revision   json.RawMessage `json:"revision"`
	ModifiedBy json.RawMessage `json:"modified_by"`
	ModifiedOn json.RawMessage `json:"modified_on"`
}

func decodePolicy(text []byte) (deploy.RollbackPolicy, error) {
	body := policyBody{RollbackPolicy: deploy.DefaultPolicy()}
	if err := decodeStrict(text, &body); err != nil {
		return deploy.RollbackPolicy{}, err
	}
	return body.complete()
}

func (body policyBody) complete() (deploy.RollbackPolicy, error) {
	if body.Enabled == nil {
		return deploy.RollbackPolicy{}, errs.New(errs.Invalid, 0, "enabled is missing: it must be true or false").At("/enabled")
	}
	p := body.RollbackPolicy
	p.Enabled = *body.Enabled
	p.Complete()
	return p, p.Validate()
}

// policyView is a policy without its secrets, and where it comes from.
type policyView struct {
	deploy.RollbackPolicy
	Source     deploy.PolicySource `json:"source"`
	Revision   int64               `json:"revision"`
	ModifiedBy string              `json:"modified_by"`
	ModifiedOn timestamp           `json:"modified_on"`
}

// showPolicy tags the answer with the revision of what a PUT would replace: 0 for a
// script that has no policy of its own.
func (r *request) showPolicy(p deploy.PolicyRevision) policyView {
	if p.Source == deploy.PolicyOfAccount && r.script() != "" {
		r.setETag(0)
	} else {
		r.setETag(p.Revision)
	}
	return policyView{p.Policy.Masked(), p.Source, p.Revision, p.By, timestamp(p.At)}
}

// The path of the account's default has no script, and so the handlers below are those
// of both.

func (s *Server) getPolicy(r *request) (any, error) {
	p, err := s.deps.Policies.Policy(r.ctx, r.account, r.script())
	if err != nil {
		return nil, err
	}
	return r.showPolicy(p), nil
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
	if err := s.checkTargets(p.Notify); err != nil {
		return nil, err
	}
	saved, err := s.deps.Policies.SavePolicy(r.ctx, r.account, r.script(), p, r.checkIfMatch)
	if err != nil {
		return nil, err
	}
	return r.showPolicy(saved), nil
}

// checkTargets refuses addresses to which nothing may be sent. Names are looked up when
// something is, and checked again then.
func (s *Server) checkTargets(targets []deploy.NotifyTarget) error {
	if s.checkURL == nil {
		return nil
	}
	for i, target := range targets {
		if target.URL == "" {
			continue
		}
		u, err := url.Parse(target.URL)
		if err == nil {
			err = s.checkURL(u)
		}
		if err != nil {
			return deploy.ErrNotifyURL(i, err.Error())
		}
	}
	return nil
}

func (s *Server) deletePolicy(r *request) (any, error) {
	return nil, s.deps.Policies.DeletePolicy(r.ctx, r.account, r.script(), r.checkIfMatch)
}

type revisionView struct {
	Revision   int64                  `json:"revision"`
	ModifiedBy string                 `json:"modified_by"`
	ModifiedOn timestamp              `json:"modified_on"`
	Policy     *deploy.RollbackPolicy `json:"policy"` // null: it was deleted
}

func (s *Server) listPolicyRevisions(r *request) (any, error) {
	list, err := s.deps.Policies.PolicyRevisions(r.ctx, r.account, r.script())
	return views(list, func(p deploy.PolicyRevision) revisionView {
		view := revisionView{p.Revision, p.By, timestamp(p.At), nil}
		if p.Policy != nil {
			view.Policy = new(p.Policy.Masked())
		}
		return view
	}), err
}

type decisionView struct {
	deploy.RollbackDecision
	At    timestamp      `json:"at"`
	Links *decisionLinks `json:"links,omitempty"`
}

// decisionLinks are paths that show what a decision was about.
type decisionLinks struct {
	Exceptions string `json:"exceptions"` // those that are new in the version
	Events     string `json:"events"`     // the version's failed requests
	Metrics    string `json:"metrics"`
}

// decisionsMax is how many decisions are listed unless a page is asked for.
const decisionsMax = 100

func (s *Server) listDecisions(r *request) (any, error) {
	page, err := r.intQuery("page", 1, 1, 1_000_000)
	if err != nil {
		return nil, err
	}
	perPage, err := r.intQuery("per_page", decisionsMax, 1, decisionsMax)
	if err != nil {
		return nil, err
	}
	list, total, err := s.deps.Policies.Decisions(r.ctx, r.account, r.script(), int(perPage), int((page-1)*perPage))
	r.info = &resultInfo{Page: int(page), PerPage: int(perPage), Count: len(list), TotalCount: total}
	return views(list, func(d deploy.RollbackDecision) decisionView { return decisionView{d, timestamp(d.At), nil} }), err
}

func (s *Server) getDecision(r *request) (any, error) {
	d, err := s.deps.Policies.Decision(r.ctx, r.account, r.script(), r.param("id"))
	if err != nil {
		return nil, err
	}
	return decisionView{d, timestamp(d.At), linksOf(r.account, r.script(), d)}, nil
}

// Of a decision without evidence nobody knows how long it looked: the links begin so
// long before it. They end a little after it, when the last requests have come in, and are
// about no more than one question may be.
const (
	linkBefore = 10 * time.Minute
	linkAfter  = time.Minute
)

func linksOf(account, script string, d deploy.RollbackDecision) *decisionLinks {
	since, until := d.At.Add(-linkBefore), d.At.Add(linkAfter)
	for _, e := range d.Evidence {
		if len(e.Series) > 0 && e.Series[0].At.Before(since) {
			since = e.Series[0].At
		}
	}
	if oldest := until.Add(-metricsRangeMax); since.Before(oldest) {
		since = oldest
	}
	link := func(what string, query url.Values) string {
		query.Set("since", since.UTC().Format(time.RFC3339))
		query.Set("until", until.UTC().Format(time.RFC3339))
		path := strings.Join([]string{basePath, "accounts", url.PathEscape(account), "workers/scripts", url.PathEscape(script), what}, "/")
		return path + "?" + query.Encode()
	}
	exceptions := url.Values{"version": {d.VersionID}}
	if d.BaselineVersionID != "" {
		exceptions = url.Values{"new_in": {d.VersionID}, "compared_to": {d.BaselineVersionID}}
	}
	return &decisionLinks{
		Exceptions: link("exceptions", exceptions),
		Events:     link("events", url.Values{"version": {d.VersionID}, "failed": {"true"}}),
		Metrics:    link("metrics", url.Values{}),
	}
}

type rampView struct {
	deploy.Ramp
	StepStartedAt timestamp   `json:"step_started_at"`
	ResumedAt     *timestamp  `json:"resumed_at,omitempty"`
	LastChange    *changeView `json:"last_change,omitempty"`
}

type changeView struct {
	deploy.RampChange
	At timestamp `json:"at"`
}

func viewRamp(r deploy.Ramp) rampView {
	view := rampView{r, timestamp(r.StepStartedAt), optional(r.ResumedAt), nil}
	if c := r.LastChange; c != nil {
		view.LastChange = &changeView{*c, timestamp(c.At)}
	}
	return view
}

func (s *Server) getRamp(r *request) (any, error) {
	ramp, err := s.deps.Policies.Ramp(r.ctx, r.account, r.script())
	return viewRamp(ramp), err
}

func (s *Server) controlRamp(r *request) (any, error) {
	var body struct {
		Action       string `json:"action"`
		DeploymentID string `json:"deployment_id"` // of the ramp as the caller saw it; empty for any
	}
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	ramp, err := s.deps.Policies.ControlRamp(r.ctx, r.account, r.script(), body.Action, body.DeploymentID)
	return viewRamp(ramp), err
}
