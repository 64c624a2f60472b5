package api

import (
	"context"
	"math"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// getSnapshot serves the gateways of one account.
func (s *Server) getSnapshot(r *request) (any, error) {
	return s.awaitSnapshot(r, func(ctx context.Context, after int64) (*deploy.Snapshot, error) {
		return s.deps.Snapshots.Snapshot(ctx, r.account, after)
	})
}

// getWholeSnapshot serves the gateways of all accounts.
func (s *Server) getWholeSnapshot(r *request) (any, error) {
	return s.awaitSnapshot(r, s.deps.Snapshots.SnapshotAll)
}

func (s *Server) awaitSnapshot(r *request, read func(ctx context.Context, after int64) (*deploy.Snapshot, error)) (any, error) {
	after, err := r.intQuery("after", 0, 0, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	snapshot, err := read(ctx, after)
	if err != nil && s.stopping.Err() != nil {
		return nil, errs.New(errs.Unavailable, 0, "this server is stopping: ask again")
	}
	return snapshot, err
}

// getBundle gives a router what it needs to run a version, secrets included.
func (s *Server) getBundle(r *request) (any, error) {
	return s.deps.Scripts.Bundle(r.ctx, r.account, r.param("id"))
}

// getModule gives a router the content of a module.
func (s *Server) getModule(r *request) (any, error) {
	content, err := s.deps.Scripts.Module(r.ctx, r.account, r.param("sha256"))
	return rawAnswer{contentType: "application/octet-stream", body: content}, err
}
