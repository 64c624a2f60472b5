package api

import (
	"context"
	"math"

	"tidegate/internal/errs"
)

// getSnapshot serves gateways: those of one account, and with the operator's
// token those of all, whose path has no account.
func (s *Server) getSnapshot(r *request) (any, error) {
	after, err := r.intQuery("after", 0, 0, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	snapshot, err := s.deps.Snapshots.Snapshot(ctx, r.account, after)
	if err != nil && s.stopping.Err() != nil {
		return nil, errs.New(errs.Unavailable, 0, "this server is stopping: ask again")
	}
	return snapshot, err
}
