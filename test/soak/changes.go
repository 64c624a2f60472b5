package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// change uploads versions and deploys splits of both scripts, at a pace of about one change in two seconds, as long
// as ctx lives.
func (w *world) change(ctx context.Context, dice *rand.Rand) {
	for n := 2; pause(ctx, time.Duration(500+dice.IntN(3000))*time.Millisecond); n++ {
		script, tag := worker, fmt.Sprintf("v%d", n)
		if dice.IntN(2) == 0 {
			script = origin
		}
		switch dice.IntN(4) {
		case 0:
			w.attempt(ctx, "roll back", func(ctx context.Context) error { return w.rollBack(ctx, script) })
		case 1:
			w.attempt(ctx, "move a split", func(ctx context.Context) error { return w.move(ctx, script, dice) })
		default:
			w.attempt(ctx, "upload a version of the "+map[string]string{worker: "Worker", origin: "origin"}[script], func(ctx context.Context) error {
				return w.release(ctx, script, tag, dice)
			})
		}
		if n%10 == 0 {
			w.attempt(ctx, "refuse code that does not run", w.refuseBadCode)
		}
	}
}

// release uploads a version and gives it a part of the traffic beside the newest deployed one.
func (w *world) release(ctx context.Context, script, tag string, dice *rand.Rand) error {
	p := w.platform()
	var id string
	var err error
	if script == worker {
		id, err = p.UploadWorker(ctx, script, platform.JavaScript(tag, workerSource(tag)))
	} else {
		id, err = p.UploadOrigin(ctx, script, w.origins[dice.IntN(len(w.origins))].URL, tag, "")
	}
	if err != nil {
		return err
	}
	list, err := p.Deployments(ctx, script)
	if err != nil {
		return err
	}
	share := deploy.Percentage(1+dice.IntN(99)) * 1000
	_, err = p.Deploy(ctx, script, deploy.Split{VersionID: id, Percentage: share},
		deploy.Split{VersionID: list[0].Versions[0].VersionID, Percentage: deploy.Full - share})
	return err
}

// move is a step of a ramp: other shares for the same versions, at times all for one.
func (w *world) move(ctx context.Context, script string, dice *rand.Rand) error {
	p := w.platform()
	list, err := p.Deployments(ctx, script)
	if err != nil {
		return err
	}
	splits := list[0].Versions
	if len(splits) == 1 || dice.IntN(4) == 0 {
		_, err = p.Deploy(ctx, script, deploy.Split{VersionID: splits[0].VersionID, Percentage: deploy.Full})
		return err
	}
	share := deploy.Percentage(1+dice.IntN(99)) * 1000
	_, err = p.Deploy(ctx, script, deploy.Split{VersionID: splits[0].VersionID, Percentage: share}, deploy.Split{VersionID: splits[1].VersionID, Percentage: deploy.Full - share})
	return err
}

// rollBack deploys what was deployed before.
func (w *world) rollBack(ctx context.Context, script string) error {
	p := w.platform()
	list, err := p.Deployments(ctx, script)
	if err != nil || len(list) < 2 {
		return err
	}
	_, err = p.Deploy(ctx, script, list[1].Versions...)
	return err
}

func (w *world) refuseBadCode(ctx context.Context) error {
	_, err := w.platform().UploadWorker(ctx, worker, platform.JavaScript("bad", "export default { fetch( }"))
	if refused, ok := errors.AsType[*platform.APIError](err); ok && refused.Status == http.StatusBadRequest {
		return nil
	}
	return fmt.Errorf("code that does not parse was answered %w", err)
}

// changeJobs makes jobs, has their destination fail and recover, and deletes them.
func (w *world) changeJobs(ctx context.Context, dice *rand.Rand) {
	for n := 1; pause(ctx, time.Duration(1000+dice.IntN(4000))*time.Millisecond); n++ {
		var job struct{ ID int64 }
		made := w.attempt(ctx, "make a job", func(ctx context.Context) error {
			return w.platform().API(ctx, http.MethodPost, "/accounts/{account}/logpush/jobs", map[string]any{
				"name": fmt.Sprintf("job-%d", n), "dataset": "workers_trace_events", "enabled": true, "destination_conf": w.receiver.url(fmt.Sprintf("job-%d", n)),
				"max_upload_interval_seconds": 30, "filter": `{"where":{"key":"ScriptName","operator":"eq","value":"` + worker + `"}}`,
			}, &job)
		})
		w.receiver.fail(true)
		pause(ctx, time.Duration(1000+dice.IntN(4000))*time.Millisecond)
		w.receiver.fail(false)
		pause(ctx, time.Duration(1000+dice.IntN(4000))*time.Millisecond)
		if made {
			// Also after the end: what is left running would have to be accounted for.
			w.attempt(context.WithoutCancel(ctx), "delete a job", func(ctx context.Context) error {
				return w.platform().API(ctx, http.MethodDelete, fmt.Sprintf("/accounts/{account}/logpush/jobs/%d", job.ID), nil, nil)
			})
		}
	}
}

// attempt counts what became of a change. While something is broken it may be refused; when nothing is, it may not.
func (w *world) attempt(ctx context.Context, what string, f func(context.Context) error) bool {
	if ctx.Err() != nil {
		return false
	}
	before := w.troubled.Load()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	err := f(bounded)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.accepted[what]++
	case before > 0 || w.troubled.Load() > 0:
		w.refused[what]++
	default:
		w.lastWrong[what] = err.Error()
	}
	return err == nil
}

// pause reports whether ctx is still alive after d.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
