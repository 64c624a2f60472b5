package gateway

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"tidegate/internal/deploy"
)

const (
	reportTimeout  = 10 * time.Second
	reportRetryMin = time.Second
	reportRetryMax = 30 * time.Second
	reportsAtOnce  = 500 // a call; the API takes 1,000
	// reportsBytesMax of a call, of which the API takes 1 MiB. reportBytes is what a
	// report has beside its error, and errorByteMax what one byte of that may become in JSON.
	reportsBytesMax = 1000 << 10
	reportBytes     = 1 << 10
	errorByteMax    = 6
)

// Reports takes what this gateway sees of versions to where people look:
// the store in the same process, or the control plane's API.
type Reports interface {
	Report(ctx context.Context, reports []deploy.VersionReport) error
}

// reported is what a version was last said to be.
type reported struct {
	state deploy.BackendState
	at    time.Time
}

// keepReporting tells the control plane of versions that cannot start, that serve
// again, that serve in a new deployment, and of endpoints of theirs that are out, until
// ctx ends. Only the newest state
// of a version matters: what changes while the control plane is away is told once.
func (g *Gateway) keepReporting(ctx context.Context) {
	told := map[string]deploy.BackendState{} // by version id, as the control plane has it
	seen := map[string]reported{}            // to be told, with the time of the change
	backOff := reportRetryMin
	var retry <-chan time.Time
	for {
		t := g.table.Load()
		var replaced <-chan struct{}
		if t == nil {
			retry = time.After(reportRetryMin)
		} else {
			replaced = t.replaced
			due := t.dueReports(told, seen, g.cfg.RouterID, time.Now())
			if len(due) > 0 && retry == nil {
				if err := g.report(ctx, due); err != nil && ctx.Err() == nil {
					g.metrics.reportErrors.Add(1)
					g.log.Warn("states of versions not reported, trying again", "versions", len(due), "error", err)
					retry = time.After(backOff/2 + rand.N(backOff/2))
					backOff = min(2*backOff, reportRetryMax)
				} else if err == nil {
					backOff = reportRetryMin
					for _, r := range due {
						told[r.VersionID] = deploy.BackendState{Phase: r.Phase, Error: r.Error}
						delete(seen, r.VersionID)
					}
					continue // there may be more than went into one call
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-replaced:
		case <-retry:
			retry = nil
		}
	}
}

// dueReports returns what the control plane does not know yet, and forgets the
// versions that are gone. A version that is starting is nothing yet; one that
// nobody deployed is told of only when it cannot start, and afterwards.
func (t *table) dueReports(told map[string]deploy.BackendState, seen map[string]reported, router string, now time.Time) (due []deploy.VersionReport) {
	for id := range told {
		if _, ok := t.versions[id]; !ok {
			delete(told, id)
			delete(seen, id)
		}
	}
	room := reportsBytesMax
	deployed := map[string]bool{}
	for _, sc := range t.scripts {
		for _, split := range sc.Splits {
			deployed[split.VersionID] = true
		}
	}
	for id, v := range t.versions {
		state := v.version.state
		// The cut may be inside a character; and the API takes no NUL.
		state.Error = strings.ToValidUTF8(cut(strings.ReplaceAll(state.Error, "\x00", ""), deploy.ReportErrorBytesMax), "")
		before, known := told[id]
		wanted := v.version.reported() && (state.Phase == deploy.BackendFailed || state.Phase == deploy.BackendReady && (known || deployed[id] || state.Error != ""))
		if !wanted || known && state == before {
			delete(seen, id)
			continue
		}
		if seen[id].state != state {
			seen[id] = reported{state, now}
		}
		if room -= reportBytes + errorByteMax*len(state.Error); len(due) < reportsAtOnce && room >= 0 {
			due = append(due, deploy.VersionReport{
				AccountID: v.script.AccountID, Script: v.script.Name, VersionID: id, RouterID: router,
				Phase: state.Phase, Error: state.Error, At: seen[id].at,
			})
		}
	}
	return due
}

func (g *Gateway) report(ctx context.Context, due []deploy.VersionReport) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	return g.deps.Reports.Report(ctx, due)
}
