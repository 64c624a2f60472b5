package api_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/api"
	"tidegate/internal/api/client"
	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// trials are those of one script with one bad version.
type trials struct {
	// hold, if it is set, is called between the first and the second half of a backtest.
	hold func(ctx context.Context) error
}

var backtested = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func (f trials) Backtest(ctx context.Context, q deploy.BacktestQuery, progress func(deploy.BacktestProgress)) (deploy.BacktestResult, error) {
	since, until := q.Since, backtested.Add(time.Hour)
	if since.IsZero() {
		since = backtested
	}
	if !since.Before(until) {
		return deploy.BacktestResult{}, errs.New(errs.Invalid, 0, "there is nothing to replay")
	}
	progress(deploy.BacktestProgress{Since: since, Until: until, At: since})
	if f.hold != nil {
		if err := f.hold(ctx); err != nil {
			return deploy.BacktestResult{}, err
		}
	}
	progress(deploy.BacktestProgress{Since: since, Until: until, At: until})
	failedAt := backtested.Add(5 * time.Minute)
	unknown := deploy.BacktestTrial{VersionID: q.Script, BaselineVersionID: "v1", Since: since, Until: until, FailedAt: &failedAt, Metric: q.Policy.Limits()[0].Metric, Sentence: "at 100 %"}
	return deploy.BacktestResult{Since: since, Until: until, FailuresSaved: new(12.5), FailuresSavedUnknown: 1, Trials: []deploy.BacktestTrial{{
		VersionID: q.Script, BaselineVersionID: "v1", Since: since, Until: until, FailedAt: &failedAt, Metric: q.Policy.Limits()[0].Metric, Sentence: "after 100 requests",
		FailuresSaved: new(12.5), Evidence: liveTests(),
	}, unknown}}, nil
}

func (trials) Evidence(_ context.Context, _, script string) (deploy.LiveEvidence, error) {
	if script == "none" {
		return deploy.LiveEvidence{}, errs.New(errs.NotFound, 10007, "there is no script none")
	}
	return deploy.LiveEvidence{At: backtested, PolicySource: deploy.PolicyOfScript, PolicyRevision: 2, Enabled: true, Trials: []deploy.LiveTrial{{
		VersionID: "v2", BaselineVersionID: "v1", Since: backtested, Verdict: deploy.VerdictPass, Sentence: "1 of 100 requests failed", Evidence: liveTests(), Heard: new(backtested.Add(time.Second)),
	}}}, nil
}

func liveTests() []deploy.Evidence {
	return []deploy.Evidence{{Metric: deploy.MetricFailureRatio, Limit: 1, LogE: -0.5, Threshold: 6.9, PValue: 1, Trials: 100, Events: 1, Expected: 0.5, High: new(4.5),
		Series: []deploy.EvidencePoint{{At: backtested, LogE: -0.5}}}}
}

// backtests is called where shop follows a policy with max_failure_rate.
func backtests(t *testing.T, p *platform) {
	ctx := t.Context()
	const path = "/workers/scripts/shop/rollback-policy/backtest"
	p.call(t, http.MethodPost, path, `{}`).ok(t, `"since":"2026-11-20T12:00:00.000000Z"`, `"failed_at":"2026-11-20T12:05:00.000000Z"`, `"metric":"max_failure_rate"`, `"policy":{"enabled":true,"max_failure_rate":0.05`)
	b, err := p.Backtest(ctx, account, "shop", client.BacktestQuery{Policy: &deploy.RollbackPolicy{MaxFailureRatio: new(2.0), MinRequests: 20, LookBackSeconds: 300, Confidence: 0.99, Count: deploy.CountAny, Evidence: deploy.EvidenceRequests, Action: deploy.ActionNotify}, Since: backtested.Add(time.Minute)})
	if err != nil || len(b.Trials) != 2 || b.Trials[0].Metric != deploy.MetricFailureRatio || !b.Since.Equal(backtested.Add(time.Minute)) || *b.FailuresSaved != 12.5 || b.FailuresSavedUnknown != 1 || *b.Policy.MaxFailureRatio != 2 {
		t.Errorf("%+v, error %v", b, err)
	} else if saved := b.Trials[0].FailuresSaved; saved == nil || *saved != 12.5 || b.Trials[1].FailuresSaved != nil {
		t.Errorf("what is not known is told as a number, or what is known is not: %+v", b.Trials)
	}
	for body, pointer := range map[string]string{
		`{"policy": {"enabled": true, "max_failure_rate": 2}}`:               "/policy/max_failure_rate",
		`{"policy": {"max_failure_rate": 0.2}}`:                              "/policy/enabled",
		`{"policy": {"enabled": true, "max_failure_rat": 0.2}}`:              "/policy/max_failure_rat",
		`{"since": "2026-11-20T00:00:00Z", "until": "2026-11-19T00:00:00Z"}`: "/since",
		`{"since": "7d"}`: "/since",
		`{"from": 1}`:     "/from",
	} {
		a := p.call(t, http.MethodPost, path, body)
		if a.want(t, http.StatusBadRequest, 10001); a.Errors[0].Source.Pointer != pointer {
			t.Errorf("%s: %s", body, a.text)
		}
	}
	p.call(t, http.MethodPost, "/workers/scripts/none/rollback-policy/backtest", `{}`).want(t, http.StatusNotFound, 10007)
	live, err := p.Evidence(ctx, account, "shop")
	if err != nil || !live.Enabled || live.PolicyRevision != 2 || len(live.Trials) != 1 || live.Trials[0].Evidence[0].Threshold != 6.9 || len(live.Trials[0].Evidence[0].Series) != 1 ||
		live.Trials[0].Evidence[0].Low != nil || *live.Trials[0].Evidence[0].High != 4.5 ||
		live.Trials[0].Heard == nil || !live.Trials[0].Heard.Equal(backtested.Add(time.Second)) || live.Trials[0].BaselineHeard != nil {
		t.Errorf("%+v, error %v", live, err)
	}
	_, err = p.Evidence(ctx, account, "none")
	wantKind(t, err, errs.NotFound)
}

// backtesting is a platform whose shop has a policy.
func backtesting(t *testing.T, f api.Trials) *platform {
	p := newPlatformAt(t, api.Config{}, nil, func(d *api.Deps) { d.Trials = f })
	p.upload(t, "shop", "v1")
	p.call(t, http.MethodPut, "/workers/scripts/shop/rollback-policy", `{"enabled": true}`).ok(t)
	return p
}

func TestBacktestsAreFollowed(t *testing.T) {
	p := backtesting(t, trials{})
	var at []time.Time
	b, text, err := p.FollowBacktest(t.Context(), account, "shop", client.BacktestQuery{}, func(p client.BacktestProgress) { at = append(at, p.At) })
	if err != nil || len(b.Trials) != 2 || !strings.Contains(string(text), `"false_alarms":0`) || strings.Count(string(text), `"failures_saved":`) != 2 {
		t.Fatalf("%+v, %s, error %v", b, text, err)
	}
	if len(at) != 2 || !at[0].Equal(backtested) || !at[1].Equal(b.Until) {
		t.Errorf("it was at %v", at)
	}
	// What is refused has a status, also to those who would follow.
	_, _, err = p.FollowBacktest(t.Context(), account, "shop", client.BacktestQuery{Since: backtested.AddDate(1, 0, 0)}, nil)
	wantKind(t, err, errs.Invalid)
}

func TestBacktestsThatFailLaterSaySo(t *testing.T) {
	for want, failure := range map[string]error{
		"ask about less time": errs.New(errs.Unavailable, 0, "it took too long: ask about less time"),
		"internal error":      errors.New("select secret from tables"),
	} {
		p := backtesting(t, trials{hold: func(context.Context) error { return failure }})
		_, _, err := p.FollowBacktest(t.Context(), account, "shop", client.BacktestQuery{}, func(client.BacktestProgress) {})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestBacktestsEndWithTheirCallers(t *testing.T) {
	ended := make(chan error, 2)
	p := backtesting(t, trials{hold: func(ctx context.Context) error {
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}})
	ctx, leave := context.WithCancel(t.Context())
	_, _, err := p.FollowBacktest(ctx, account, "shop", client.BacktestQuery{}, func(client.BacktestProgress) { leave() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the backtest ended with %v", err)
	}
	// So does a server that stops.
	_, _, err = p.FollowBacktest(t.Context(), account, "shop", client.BacktestQuery{}, func(client.BacktestProgress) { p.server.StopWaiting() })
	if err == nil || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("it ended with %v", err)
	}
}

func TestAnAccountHasOneBacktestAtATime(t *testing.T) {
	var running, most atomic.Int64
	p := backtesting(t, trials{hold: func(context.Context) error {
		now := running.Add(1)
		defer running.Add(-1)
		for before := most.Load(); now > before && !most.CompareAndSwap(before, now); before = most.Load() {
		}
		time.Sleep(20 * time.Millisecond) // longer than the others take to come
		return nil
	}})
	p.server.WaitForQuestions(time.Minute)
	done := make(chan error)
	for range 4 {
		go func() {
			_, err := p.Backtest(t.Context(), account, "shop", client.BacktestQuery{})
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if most.Load() != 1 {
		t.Errorf("%d were under way at once", most.Load())
	}
}

func TestWithoutTrialsThereIsNoBacktest(t *testing.T) {
	p := backtesting(t, nil)
	_, err := p.Backtest(t.Context(), account, "shop", client.BacktestQuery{})
	wantKind(t, err, errs.Unavailable)
	_, err = p.Evidence(t.Context(), account, "shop")
	wantKind(t, err, errs.Unavailable)
}
