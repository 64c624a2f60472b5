package api

import (
	"slices"

	"tidegate/schema"
)

const (
	callsLimit    = 200
	callsLimitMax = 1000
)

type callsView struct {
	Since      timestamp   `json:"since"`
	Until      timestamp   `json:"until"`
	TotalPairs int         `json:"total_pairs"`
	Pairs      []callsPair `json:"pairs"`
}

// callsPair has no caller for calls by RPC: nobody knows it.
type callsPair struct {
	Caller      *calledVersion `json:"caller,omitempty"`
	Callee      calledVersion  `json:"callee"`
	Requests    int64          `json:"requests"`
	Failures    int64          `json:"failures"`
	FailureRate *float64       `json:"failure_rate,omitempty"`
	LastSeen    timestamp      `json:"last_seen"`
}

type calledVersion struct {
	Script    string `json:"script"`
	VersionID string `json:"version_id"`
	Tag       string `json:"tag,omitempty"`
}

// listCalls counts calls between Workers by the versions of both sides.
func (s *Server) listCalls(r *request) (any, error) {
	q := schema.CallQuery{AccountID: r.account, Caller: r.gin.Query("caller"), Callee: r.gin.Query("callee")}
	var err error
	if q.Since, q.Until, err = s.timeRange(r); err != nil {
		return nil, err
	}
	limit, err := r.intQuery("limit", callsLimit, 1, callsLimitMax)
	if err != nil {
		return nil, err
	}
	q.Limit = int(limit)
	for _, name := range []string{q.Caller, q.Callee} {
		if name == "" {
			continue
		}
		if _, err := s.deps.Scripts.Script(r.ctx, r.account, name); err != nil {
			return nil, err
		}
	}
	list, total, err := s.deps.Events.Calls(r.ctx, q)
	if err != nil {
		return nil, err
	}
	view := callsView{timestamp(q.Since), timestamp(q.Until), total, make([]callsPair, len(list))}
	var callers []string
	for _, p := range list {
		if p.CallerVersionID != "" && !slices.Contains(callers, p.CallerVersionID) {
			callers = append(callers, p.CallerVersionID)
		}
	}
	tags, err := s.deps.Scripts.VersionTags(r.ctx, r.account, callers) // which their callees' events do not have
	if err != nil {
		return nil, err
	}
	for i, p := range list {
		pair := callsPair{
			Callee:   calledVersion{p.CalleeScript, p.CalleeVersionID, p.CalleeTag},
			Requests: p.Requests, Failures: p.Failures, FailureRate: share(p.Failures, p.Requests), LastSeen: timestamp(p.LastSeen),
		}
		if p.CallerVersionID != "" {
			pair.Caller = &calledVersion{p.CallerScript, p.CallerVersionID, tags[p.CallerVersionID]}
		}
		view.Pairs[i] = pair
	}
	return view, nil
}
