package api

import (
	"context"
	"slices"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// Routers tell the control plane things, and ask it whose turn it is.
type Routers interface {
	// SaveReports keeps the newest report of each router on each version, and leaves
	// out versions that do not exist.
	SaveReports(ctx context.Context, reports []deploy.VersionReport) error
	// SaveRouter keeps the newest word of a router on itself.
	SaveRouter(ctx context.Context, r control.RouterState) error
	Reports(ctx context.Context, accountID, script string) ([]deploy.VersionReport, error)
	// ClaimCron reports whether the caller is the first to claim this run.
	ClaimCron(ctx context.Context, accountID, script, cron string, at time.Time) (bool, error)
}

// reportsMax bounds the reports of one call.
const reportsMax = 1000

type reportsBody struct {
	Reports []struct {
		AccountID string    `json:"account_id"`
		Script    string    `json:"script"`
		VersionID string    `json:"version_id"`
		RouterID  string    `json:"router_id"`
		Phase     string    `json:"phase"`
		Error     string    `json:"error"`
		At        time.Time `json:"at"`
	} `json:"reports"`
}

func (s *Server) putReports(r *request) (any, error) {
	var body reportsBody
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	if len(body.Reports) > reportsMax {
		return nil, errs.New(errs.Invalid, 0, "reports has %d entries: send at most %d at once", len(body.Reports), reportsMax).At("/reports")
	}
	reports := make([]deploy.VersionReport, len(body.Reports))
	for i, b := range body.Reports {
		phase := deploy.BackendPhase(b.Phase)
		if phase != deploy.BackendReady && phase != deploy.BackendFailed {
			return nil, errs.New(errs.Invalid, 0, "reports[%d].phase is %q: it must be ready or failed", i, shown(b.Phase)).At("/reports")
		}
		if b.AccountID == "" || b.Script == "" || b.VersionID == "" || b.RouterID == "" || b.At.IsZero() {
			return nil, errs.New(errs.Invalid, 0, "reports[%d] must have account_id, script, version_id, router_id and at", i).At("/reports")
		}
		if len(b.Error) > deploy.ReportErrorBytesMax {
			return nil, errs.New(errs.Invalid, 0, "reports[%d].error has %d bytes: send at most %d", i, len(b.Error), deploy.ReportErrorBytesMax).At("/reports")
		}
		reports[i] = deploy.VersionReport{
			AccountID: b.AccountID, Script: b.Script, VersionID: b.VersionID, RouterID: b.RouterID, Phase: phase, Error: b.Error, At: b.At,
		}
	}
	return nil, s.deps.Routers.SaveReports(r.ctx, reports)
}

type cronClaimBody struct {
	AccountID   string    `json:"account_id"`
	Script      string    `json:"script"`
	Cron        string    `json:"cron"`
	ScheduledOn time.Time `json:"scheduled_on"`
}

// claimCron gives a run of a schedule to the first router that asks for it.
func (s *Server) claimCron(r *request) (any, error) {
	var body cronClaimBody
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	if body.AccountID == "" || body.Script == "" || body.ScheduledOn.IsZero() {
		return nil, errs.New(errs.Invalid, 0, "account_id, script and scheduled_on must be there")
	}
	if _, err := deploy.ParseCron(body.Cron); err != nil {
		return nil, atPointer(err, "/cron")
	}
	claimed, err := s.deps.Routers.ClaimCron(r.ctx, body.AccountID, body.Script, body.Cron, body.ScheduledOn)
	return struct {
		Claimed bool `json:"claimed"`
	}{claimed}, err
}

// versionStatus is what a router says of a version of a deployment.
type versionStatus struct {
	VersionID string              `json:"version_id"`
	RouterID  string              `json:"router_id"`
	Phase     deploy.BackendPhase `json:"phase"`
	Error     string              `json:"error,omitempty"`
	At        timestamp           `json:"at"`
}

// versionStatuses returns, for each of the deployments, what routers say of its
// versions.
func (s *Server) versionStatuses(r *request, list ...deploy.Deployment) ([][]versionStatus, error) {
	out := make([][]versionStatus, len(list))
	if s.deps.Routers == nil {
		return out, nil
	}
	reports, err := s.deps.Routers.Reports(r.ctx, r.account, r.script())
	if err != nil {
		return nil, err
	}
	for i, d := range list {
		for _, report := range reports {
			if slices.ContainsFunc(d.Versions, func(split deploy.Split) bool { return split.VersionID == report.VersionID }) {
				out[i] = append(out[i], versionStatus{report.VersionID, report.RouterID, report.Phase, report.Error, timestamp(report.At)})
			}
		}
	}
	return out, nil
}
