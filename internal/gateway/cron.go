package gateway

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"tidegate/internal/deploy"
)

const (
	// claimRetry and claimPatience are for a control plane that is away: a run that
	// is not claimed well within its minute does not happen.
	claimRetry    = 2 * time.Second
	claimPatience = 30 * time.Second
	// scheduledMax runs may be under way at once; a handler may take minutes.
	scheduledMax = 1000
)

// What became of a run of a schedule.
const (
	scheduleRan        = "ran"             // the handler was called; its outcome is in its event
	scheduleElsewhere  = "elsewhere"       // another gateway had it
	scheduleUnclaimed  = "unclaimed"       // the control plane did not answer in time
	scheduleNoHandler  = "no_handler"      // the picked version has no scheduled handler
	scheduleNotStarted = "not_started"     // the picked version did not start in time
	scheduleFailed     = "failed"          // the handler could not be called
	scheduleTooMany    = "too_many"        // scheduledMax was reached
	schedulePassed     = "gateway_stopped" // the gateway stopped before
)

var scheduleResults = []string{
	scheduleRan, scheduleElsewhere, scheduleUnclaimed, scheduleNoHandler, scheduleNotStarted, scheduleFailed, scheduleTooMany, schedulePassed,
}

// Claims makes sure that of several gateways one runs a schedule.
type Claims interface {
	// ClaimCron reports whether the caller is the first to claim this run.
	ClaimCron(ctx context.Context, accountID, script, cron string, at time.Time) (bool, error)
}

// schedule is one of a script's schedules.
type schedule struct {
	expression string
	cron       deploy.Cron
}

// compileSchedules leaves out what is no cron expression, with a warning.
func compileSchedules(sc *deploy.SnapshotScript, warn func(string, ...any)) (list []schedule) {
	for _, expression := range sc.Crons {
		cron, err := deploy.ParseCron(expression)
		if err != nil {
			warn("script %s/%s: %v", sc.AccountID, sc.Name, err)
			continue
		}
		list = append(list, schedule{expression, cron})
	}
	return list
}

// keepSchedules runs the schedules of every minute, until ctx ends and the last
// call has returned. A minute in which the gateway did not run, or which the clock
// left out, is not made up for: a handler that runs at the wrong time may do more harm than
// one that does not.
func (g *Gateway) keepSchedules(ctx context.Context, now func() time.Time) {
	var running sync.WaitGroup
	defer running.Wait()
	const day = 24 * 60
	var had [day]int64 // the minutes since 1970 that had their turn, each at its place in the day
	minute := now().Unix() / 60
	had[minute%day] = minute
	for {
		// Until the next minute as the clock is now, so never for longer than one: who waited for
		// a certain time would wait for as much longer as the clock is set back meanwhile.
		at := now()
		timer := time.NewTimer(at.Truncate(time.Minute).Add(time.Minute).Sub(at))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		// The minute that it is now: after a suspend many may have passed. A clock that was set back may
		// show minutes that were there before, and one that had been ahead those that were not.
		minute = now().Unix() / 60
		if had[minute%day] == minute {
			continue
		}
		had[minute%day] = minute
		if !g.retired.Load() { // or the other gateway was there before this minute
			g.runSchedules(ctx, time.Unix(60*minute, 0), &running)
		}
	}
}

// runSchedules starts what is due in the minute that begins at at.
func (g *Gateway) runSchedules(ctx context.Context, at time.Time, running *sync.WaitGroup) {
	t := g.table.Load()
	if t == nil {
		return
	}
	for _, sc := range t.scripts {
		if len(sc.Splits) == 0 {
			continue
		}
		for _, s := range sc.schedules {
			if !s.cron.Matches(at) {
				continue
			}
			if g.metrics.scheduledNow.Add(1) > scheduledMax {
				g.metrics.scheduledNow.Add(-1)
				g.metrics.schedules[index(scheduleResults, scheduleTooMany)].Add(1)
				continue
			}
			running.Go(func() {
				defer g.metrics.scheduledNow.Add(-1)
				g.metrics.schedules[index(scheduleResults, g.runSchedule(ctx, sc, s.expression, at))].Add(1)
			})
		}
	}
}

// runSchedule runs one schedule, if no other gateway does.
func (g *Gateway) runSchedule(ctx context.Context, sc *script, expression string, at time.Time) (result string) {
	claimed, err := g.claim(ctx, sc, expression, at)
	switch {
	case ctx.Err() != nil:
		return schedulePassed
	case err != nil:
		g.log.Error("schedule not run: the control plane did not say whose it is", "script", sc.Name, "cron", expression, "at", at, "error", err)
		return scheduleUnclaimed
	case !claimed:
		return scheduleElsewhere
	}
	choice, err := g.pick(ctx, sc, facts{})
	if err != nil {
		g.log.Error("schedule not run: the version did not start in time", "script", sc.Name, "cron", expression, "at", at, "version_id", choice.version.ID)
		return scheduleNotStarted
	}
	v := choice.version
	if v.Worker == nil || !slices.Contains(v.Worker.Exports.Handlers, "scheduled") {
		g.log.Error("schedule not run: the version has no scheduled handler", "script", sc.Name, "cron", expression, "at", at, "version_id", v.ID)
		return scheduleNoHandler
	}
	if _, err := g.deps.Workers.Scheduled(ctx, v.ID, expression, at); err != nil {
		g.log.Error("schedule not run", "script", sc.Name, "cron", expression, "at", at, "version_id", v.ID, "error", err)
		return scheduleFailed
	}
	return scheduleRan
}

// claim asks until there is an answer, or it would come too late. When an answer
// is lost, the run may be lost too: once is promised, not at least once.
func (g *Gateway) claim(ctx context.Context, sc *script, expression string, at time.Time) (claimed bool, err error) {
	if g.deps.Claims == nil {
		return true, nil
	}
	call, cancel := context.WithTimeout(ctx, claimPatience)
	defer cancel()
	for {
		claimed, err = g.deps.Claims.ClaimCron(call, sc.AccountID, sc.Name, expression, at)
		if err == nil {
			return claimed, nil
		}
		select {
		case <-call.Done():
			return false, err
		case <-time.After(claimRetry/2 + rand.N(claimRetry)):
		}
	}
}
