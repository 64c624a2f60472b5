package api

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strings"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// A backtest asks ClickHouse about a week or more, piece by piece, one after the other. It
// has a turn among the questions, too, so that it takes nobody's place.
const (
	backtestsMax        = 2
	accountBacktestsMax = 1
	backtestTime        = 2 * time.Minute
)

type backtestBody struct {
	Policy json.RawMessage `json:"policy"`
	Since  *time.Time      `json:"since"`
	Until  *time.Time      `json:"until"`
}

// backtestQuery reads what is asked. Without a policy it is about the one that the script
// follows.
func (s *Server) backtestQuery(r *request) (deploy.BacktestQuery, error) {
	q := deploy.BacktestQuery{AccountID: r.account, Script: r.script()}
	var body backtestBody
	err := r.decode(&body)
	if err != nil {
		return q, err
	}
	if body.Since != nil {
		q.Since = *body.Since
	}
	if body.Until != nil {
		q.Until = *body.Until
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		return q, errs.New(errs.Invalid, 0, "since %s is not before until %s", q.Since.Format(time.RFC3339), q.Until.Format(time.RFC3339)).At("/since")
	}
	if len(body.Policy) == 0 || string(body.Policy) == "null" {
		followed, err := s.deps.Policies.Policy(r.ctx, r.account, r.script())
		if err == nil {
			q.Policy = *followed.Policy
		}
		return q, err
	}
	q.Policy, err = decodeMemberPolicy(body.Policy)
	return q, err
}

// decodeMemberPolicy is decodePolicy of a member "policy": errors point into the body.
func decodeMemberPolicy(text []byte) (deploy.RollbackPolicy, error) {
	body := policyBody{RollbackPolicy: deploy.DefaultPolicy()}
	if err := decodeAt(text, &body, place{}.member("policy")); err != nil {
		return deploy.RollbackPolicy{}, err
	}
	p, err := body.complete()
	if e, ok := errors.AsType[*errs.Error](err); ok {
		return p, e.At("/policy" + e.Pointer)
	}
	return p, err
}

type backtestView struct {
	deploy.BacktestResult
	Since  timestamp             `json:"since"`
	Until  timestamp             `json:"until"`
	Policy deploy.RollbackPolicy `json:"policy"`
	Trials []backtestTrialView   `json:"trials"`
}

type backtestTrialView struct {
	deploy.BacktestTrial
	Since    timestamp  `json:"since"`
	Until    timestamp  `json:"until"`
	FailedAt *timestamp `json:"failed_at,omitempty"`
}

func viewBacktest(result deploy.BacktestResult, policy deploy.RollbackPolicy) backtestView {
	return backtestView{result, timestamp(result.Since), timestamp(result.Until), policy.Masked(),
		views(result.Trials, func(t deploy.BacktestTrial) backtestTrialView {
			return backtestTrialView{t, timestamp(t.Since), timestamp(t.Until), (*timestamp)(t.FailedAt)}
		})}
}

type progressView struct {
	Since timestamp `json:"since"`
	Until timestamp `json:"until"`
	At    timestamp `json:"at"`
}

// backtestPolicy answers when the backtest is done or, to those who accept it, streams how
// far it is. What is refused is refused before the stream begins; what goes wrong later is
// its last event.
func (s *Server) backtestPolicy(r *request) (any, error) {
	if s.deps.Trials == nil {
		return nil, errs.New(errs.Unavailable, 0, "this server knows nothing of trials")
	}
	q, err := s.backtestQuery(r)
	if err != nil {
		return nil, err
	}
	end, err := s.backtests.take(r.ctx, s.stopping, r.account)
	if err != nil {
		return nil, err
	}
	defer end()
	asked, err := s.question(r.ctx, r.account)
	if err != nil {
		return nil, err
	}
	defer asked()
	ctx, cancel := context.WithTimeout(r.ctx, backtestTime)
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	if !acceptsEvents(r.gin.Request.Header) {
		result, err := s.deps.Trials.Backtest(ctx, q, func(deploy.BacktestProgress) {})
		if err != nil {
			return nil, s.backtestFailure(ctx, r, err)
		}
		return viewBacktest(result, q.Policy), nil
	}
	var to *frames
	send := func(name string, value any) {
		text, err := json.Marshal(value)
		if err == nil && to.send(name, text) {
			return
		}
		cancel() // nobody takes it
	}
	result, err := s.deps.Trials.Backtest(ctx, q, func(p deploy.BacktestProgress) {
		if to == nil {
			to = new(r.stream())
		}
		send("progress", progressView{timestamp(p.Since), timestamp(p.Until), timestamp(p.At)})
	})
	if err != nil {
		err = s.backtestFailure(ctx, r, err)
	}
	if to == nil {
		return nil, err
	}
	defer to.end()
	if err == nil {
		send("result", viewBacktest(result, q.Policy))
		return written{}, nil
	}
	e, ok := errors.AsType[*errs.Error](err)
	if !ok {
		e = errs.New(errs.Internal, 0, "internal error: see the server's log for request %s", requestID(r.gin))
		if ctx.Err() == nil { // else nobody takes the stream
			s.log.ErrorContext(ctx, "backtest failed", "request_id", requestID(r.gin), "account", r.account, "script", r.script(), "error", err)
		}
	}
	send("error", viewError(r.gin, e))
	return written{}, nil
}

// backtestFailure says why a backtest ended that was ended from here.
func (s *Server) backtestFailure(ctx context.Context, r *request, err error) error {
	switch {
	case r.ctx.Err() != nil:
		return r.ctx.Err()
	case s.stopping.Err() != nil:
		return errs.New(errs.Unavailable, 0, "this server is stopping: try again")
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errs.New(errs.Unavailable, 0, "the backtest took longer than %s: ask about less time", backtestTime)
	}
	return err
}

// acceptsEvents reports whether a caller asks for server-sent events.
func acceptsEvents(header http.Header) bool {
	for _, list := range header.Values("Accept") {
		for one := range strings.SplitSeq(list, ",") {
			if name, _, err := mime.ParseMediaType(one); err == nil && name == "text/event-stream" {
				return true
			}
		}
	}
	return false
}

type evidenceView struct {
	deploy.LiveEvidence
	At     timestamp       `json:"at"`
	Trials []liveTrialView `json:"trials"`
}

type liveTrialView struct {
	deploy.LiveTrial
	Since         timestamp  `json:"since"`
	Heard         *timestamp `json:"heard_on,omitempty"`
	BaselineHeard *timestamp `json:"baseline_heard_on,omitempty"`
}

// getEvidence shows what the tests of the policy that a script follows say now.
func (s *Server) getEvidence(r *request) (any, error) {
	if s.deps.Trials == nil {
		return nil, errs.New(errs.Unavailable, 0, "this server knows nothing of trials")
	}
	live, err := s.deps.Trials.Evidence(r.ctx, r.account, r.script())
	if err != nil {
		return nil, err
	}
	return evidenceView{live, timestamp(live.At), views(live.Trials, func(t deploy.LiveTrial) liveTrialView {
		return liveTrialView{t, timestamp(t.Since), (*timestamp)(t.Heard), (*timestamp)(t.BaselineHeard)}
	})}, nil
}
