package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
)

const (
	// replaysActive of one job: they run one after the other.
	replaysActive = 5
	// replaysKept of one job; older ones that are over go when another is made.
	replaysKept = 100
)

const replayColumns = `id, account_id, job_id, request_json, state, created_on, started_on, ended_on, progress_json, partitions_json, fence`

func scanReplay(row scanner) (logjob.Replay, error) {
	var r logjob.Replay
	var request, progress, partitions string
	var created int64
	var started, ended sql.NullInt64
	err := row.Scan(&r.ID, &r.AccountID, &r.JobID, &request, &r.State, &created, &started, &ended, &progress, &partitions, &r.Fence)
	if err != nil {
		return r, err
	}
	err = errors.Join(fromJSON(request, &r.ReplayRequest), fromJSON(progress, &r.ReplayProgress), fromJSON(partitions, &r.Partitions))
	if err != nil {
		return r, fmt.Errorf("replay %d: %w", r.ID, err)
	}
	r.CreatedOn = fromMicros(created)
	r.StartedOn, r.EndedOn = optionalMicros(started), optionalMicros(ended)
	return r, nil
}

func optionalMicros(n sql.NullInt64) *time.Time {
	if !n.Valid {
		return nil
	}
	at := fromMicros(n.Int64)
	return &at
}

// CreateReplay queues a replay of one of the account's jobs. It is a conflict while
// the job has as many as it may.
func (s *Store) CreateReplay(ctx context.Context, accountID string, jobID int64, q logjob.ReplayRequest) (r logjob.Replay, err error) {
	err = s.write(ctx, "create replay", func(t *tx) error {
		if _, err := jobByID(ctx, t, t.keys, accountID, jobID); err != nil {
			return err
		}
		r, err = createReplay(ctx, t, accountID, jobID, q)
		return err
	})
	return r, err
}

// createReplay is CreateReplay for a job that is there.
func createReplay(ctx context.Context, t *tx, accountID string, jobID int64, q logjob.ReplayRequest) (logjob.Replay, error) {
	r := logjob.Replay{JobID: jobID, AccountID: accountID, ReplayRequest: q, State: logjob.ReplayQueued, CreatedOn: t.now}
	r.Losses = []logjob.ReplayLoss{}
	// The counter's row is locked from here on, so that two cannot both take the last place.
	if err := t.QueryRowContext(ctx, `UPDATE counters SET value = value + 1 WHERE name = 'replay_id' RETURNING value`).Scan(&r.ID); err != nil {
		return r, err
	}
	var active int
	if err := t.QueryRowContext(ctx, `SELECT COUNT(*) FROM replays WHERE job_id = $1 AND state IN ('queued', 'running')`, jobID).Scan(&active); err != nil {
		return r, err
	}
	if active >= replaysActive {
		return r, logjob.ReplayBusy(jobID, replaysActive)
	}
	if _, err := t.ExecContext(ctx, `DELETE FROM replays WHERE job_id = $1 AND state NOT IN ('queued', 'running') AND id NOT IN
		(SELECT id FROM replays WHERE job_id = $1 ORDER BY id DESC LIMIT $2)`, jobID, replaysKept-1); err != nil {
		return r, err
	}
	request, err := toJSON(q)
	if err != nil {
		return r, err
	}
	progress, err := toJSON(r.ReplayProgress)
	if err != nil {
		return r, err
	}
	if _, err := t.ExecContext(ctx, `INSERT INTO replays (id, account_id, job_id, request_json, state, created_on, progress_json, partitions_json, holder, lease_until, fence)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 'null', '', 0, 0)`,
		r.ID, accountID, jobID, request, r.State, t.now.UnixMicro(), progress); err != nil {
		return r, err
	}
	return r, t.audit(ctx, accountID, "replay.create", replayTarget(&r), nil, q)
}

func replayTarget(r *logjob.Replay) string { return fmt.Sprintf("%d/%d", r.JobID, r.ID) }

// Replays returns the replays of one of the account's jobs, newest first.
func (s *Store) Replays(ctx context.Context, accountID string, jobID int64) ([]logjob.Replay, error) {
	if _, err := s.Job(ctx, accountID, jobID); err != nil {
		return nil, err
	}
	var list []logjob.Replay
	err := each(ctx, s.reader, func(row scanner) error {
		r, err := scanReplay(row)
		list = append(list, r)
		return err
	}, `SELECT `+replayColumns+` FROM replays WHERE account_id = $1 AND job_id = $2 ORDER BY id DESC`, accountID, jobID)
	if err != nil {
		return nil, fmt.Errorf("list replays: %w", err)
	}
	return list, nil
}

// Replay returns one replay of one of the account's jobs.
func (s *Store) Replay(ctx context.Context, accountID string, jobID, id int64) (logjob.Replay, error) {
	r, err := replayByID(ctx, s.reader, accountID, jobID, id)
	if err != nil {
		return r, fmt.Errorf("read replay: %w", err)
	}
	return r, nil
}

func replayByID(ctx context.Context, q querier, accountID string, jobID, id int64) (logjob.Replay, error) {
	r, err := scanReplay(q.QueryRowContext(ctx, `SELECT `+replayColumns+` FROM replays WHERE account_id = $1 AND job_id = $2 AND id = $3`, accountID, jobID, id))
	if errors.Is(err, sql.ErrNoRows) {
		return r, errs.New(errs.NotFound, 0, "job %d of this account has no replay %d", jobID, id)
	}
	return r, err
}

// CancelReplay ends a replay: whoever runs it may write nothing more. One that is
// canceled already stays so; one that is done or failed is a conflict.
func (s *Store) CancelReplay(ctx context.Context, accountID string, jobID, id int64) (r logjob.Replay, err error) {
	err = s.write(ctx, "cancel replay", func(t *tx) error {
		// The row is locked from here on: whoever runs it tells no more of it.
		if _, err := t.ExecContext(ctx, `UPDATE replays SET state = state WHERE account_id = $1 AND job_id = $2 AND id = $3`, accountID, jobID, id); err != nil {
			return err
		}
		before, err := replayByID(ctx, t, accountID, jobID, id)
		if err != nil {
			return err
		}
		n, err := changed(ctx, t, `UPDATE replays SET state = 'canceled', ended_on = $1 WHERE account_id = $2 AND job_id = $3 AND id = $4
			AND state IN ('queued', 'running')`, t.now.UnixMicro(), accountID, jobID, id)
		if err != nil {
			return err
		}
		if r, err = replayByID(ctx, t, accountID, jobID, id); err != nil {
			return err
		}
		if n > 0 {
			return t.audit(ctx, accountID, "replay.cancel", replayTarget(&r), before, r)
		}
		if r.State != logjob.ReplayCanceled {
			return errs.New(errs.Conflict, 0, "replay %d of job %d is %s already", id, jobID, r.State)
		}
		return nil
	})
	return r, err
}

const claimableReplay = `SELECT id, fence FROM replays WHERE (state = 'queued' OR state = 'running' AND lease_until <= $1)
	AND NOT EXISTS (SELECT 1 FROM replays o WHERE o.job_id = replays.job_id AND o.state = 'running' AND o.id <> replays.id)
	ORDER BY fence, id LIMIT 1`

// ClaimReplay gives holder, until ttl is over, a replay that waits or whose holder's time
// is over, and false where there is none: the one that was claimed the fewest times, and
// then the oldest, so that those given back come last. One job has one running replay.
func (s *Store) ClaimReplay(ctx context.Context, holder string, ttl time.Duration) (r logjob.Replay, ok bool, err error) {
	var id, fence int64
	// There rarely is one, and who writes keeps all others from writing.
	err = s.reader.QueryRowContext(ctx, claimableReplay, s.now().UnixMicro()).Scan(&id, &fence)
	if errors.Is(err, sql.ErrNoRows) {
		return r, false, nil
	}
	if err != nil {
		return r, false, fmt.Errorf("look for a replay to claim: %w", err)
	}
	err = s.write(ctx, "claim replay", func(t *tx) error {
		err := t.QueryRowContext(ctx, claimableReplay, t.now.UnixMicro()).Scan(&id, &fence)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		r, err = scanReplay(t.QueryRowContext(ctx, `UPDATE replays SET state = 'running', holder = $1, lease_until = $2, fence = fence + 1,
			started_on = COALESCE(started_on, $3) WHERE id = $4 AND fence = $5 AND state IN ('queued', 'running') RETURNING `+replayColumns,
			holder, t.now.Add(ttl).UnixMicro(), t.now.UnixMicro(), id, fence))
		if errors.Is(err, sql.ErrNoRows) {
			return nil // somebody was faster
		}
		ok = err == nil
		return err
	})
	return r, ok, err
}

// RenewReplay keeps a replay for ttl more; ttl 0 gives it back. It is a conflict when
// the replay was canceled or went to somebody else.
func (s *Store) RenewReplay(ctx context.Context, id, fence int64, ttl time.Duration) error {
	until := int64(0)
	if ttl > 0 {
		until = s.now().Add(ttl).UnixMicro()
	}
	return s.changeReplay(ctx, id, `UPDATE replays SET lease_until = $1 WHERE id = $2 AND fence = $3 AND state = 'running'`, until, id, fence)
}

// SaveReplay stores state, progress and partitions of a replay that the caller holds
// under r.Fence, and has RenewReplay's conflict.
func (s *Store) SaveReplay(ctx context.Context, r logjob.Replay) error {
	progress, err := toJSON(r.ReplayProgress)
	if err != nil {
		return err
	}
	partitions, err := toJSON(r.Partitions)
	if err != nil {
		return err
	}
	ended := sql.NullInt64{}
	if r.State != logjob.ReplayRunning {
		ended = sql.NullInt64{Int64: s.now().UnixMicro(), Valid: true}
	}
	return s.changeReplay(ctx, r.ID, `UPDATE replays SET state = $1, progress_json = $2, partitions_json = $3, ended_on = $4
		WHERE id = $5 AND fence = $6 AND state = 'running'`, r.State, progress, partitions, ended, r.ID, r.Fence)
}

func (s *Store) changeReplay(ctx context.Context, id int64, query string, args ...any) error {
	n, err := changed(ctx, s.writer, query, args...)
	if err != nil {
		return fmt.Errorf("write replay %d: %w", id, err)
	}
	if n == 0 {
		return errs.New(errs.Conflict, 0, "replay %d was canceled, or another process runs it", id)
	}
	return nil
}
