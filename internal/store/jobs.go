package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/internal/seal"
)

const codeQuota = 1004 // Cloudflare's code for "not allowed"

const jobColumns = `id, account_id, settings_json, enabled_at, revision, last_complete, last_error, error_message`

func scanJob(row scanner, keys *seal.Keys) (logjob.Job, error) {
	var j logjob.Job
	var id int64
	var accountID, settings string
	var enabledAt, complete, failed sql.NullInt64
	var message sql.NullString
	var revision int64
	if err := row.Scan(&id, &accountID, &settings, &enabledAt, &revision, &complete, &failed, &message); err != nil {
		return j, err
	}
	if err := openJSON(keys, settings, &j, jobPlace(accountID, id)); err != nil {
		return j, fmt.Errorf("job %d: %w", id, err)
	}
	j.ID, j.AccountID, j.EnabledAt, j.Revision = id, accountID, fromNullMicros(enabledAt), revision
	if complete.Valid {
		at := fromMicros(complete.Int64)
		j.LastComplete = &at
	}
	if failed.Valid {
		at := fromMicros(failed.Int64)
		j.LastError = &at
	}
	if message.Valid {
		j.ErrorMessage = &message.String
	}
	return j, nil
}

func jobPlace(accountID string, id int64) string {
	return placeOf("jobs", "settings_json", accountID, id)
}

// settingsJSON leaves out what has columns of its own, and is sealed: destinations have
// credentials.
func settingsJSON(j logjob.Job, keys *seal.Keys) (string, error) {
	j.LastComplete, j.LastError, j.ErrorMessage = nil, nil, nil
	return sealJSON(keys, j, jobPlace(j.AccountID, j.ID))
}

// masked is a job as the audit log may keep it.
func masked(j logjob.Job) logjob.Job {
	j.DestinationConf = logjob.MaskDestination(j.DestinationConf)
	return j
}

// Jobs returns all jobs of all accounts, oldest first.
func (s *Store) Jobs(ctx context.Context) ([]logjob.Job, error) { return s.jobs(ctx, everyAccount) }

// AccountJobs returns the jobs of an account, oldest first.
func (s *Store) AccountJobs(ctx context.Context, accountID string) ([]logjob.Job, error) {
	return s.jobs(ctx, oneAccount(accountID))
}

func (s *Store) jobs(ctx context.Context, which accountFilter) ([]logjob.Job, error) {
	var list []logjob.Job
	err := each(ctx, s.reader, func(row scanner) error {
		j, err := scanJob(row, s.keys)
		list = append(list, j)
		return err
	}, `SELECT `+jobColumns+` FROM jobs WHERE account_id = COALESCE($1, account_id) ORDER BY id`, which)
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	return list, nil
}

// Job returns one job of an account, or a not_found error.
func (s *Store) Job(ctx context.Context, accountID string, id int64) (logjob.Job, error) {
	j, err := jobByID(ctx, s.reader, s.keys, accountID, id)
	if err != nil {
		return j, fmt.Errorf("read job: %w", err)
	}
	return j, nil
}

func jobByID(ctx context.Context, q querier, keys *seal.Keys, accountID string, id int64) (logjob.Job, error) {
	j, err := scanJob(q.QueryRowContext(ctx, `SELECT `+jobColumns+` FROM jobs WHERE account_id = $1 AND id = $2`, accountID, id), keys)
	if errors.Is(err, sql.ErrNoRows) {
		return j, errs.New(errs.NotFound, 0, "job %d does not exist in this account", id)
	}
	return j, err
}

// JobQuota is forbidden when the account may have no further job of a dataset: at
// its own setting, or at most, which holds for every account.
func (s *Store) JobQuota(ctx context.Context, accountID, dataset string, most int) error {
	return s.read(ctx, "look at the quota of jobs", func(t *sql.Tx) error { return jobQuota(ctx, t, accountID, dataset, most) })
}

// jobQuota counts all jobs as those of the dataset, because there is only one.
func jobQuota(ctx context.Context, q querier, accountID, dataset string, most int) error {
	owner, err := account(ctx, q, accountID)
	if err != nil {
		return err
	}
	var have int
	if err := q.QueryRowContext(ctx, `SELECT COUNT(*) FROM jobs WHERE account_id = $1`, accountID).Scan(&have); err != nil {
		return err
	}
	switch {
	case have >= owner.MaxJobs:
		return errs.New(errs.Forbidden, codeQuota, "creating a new job is not allowed: exceeded max jobs allowed (%d in this account)", owner.MaxJobs)
	case have >= most:
		return errs.New(errs.Forbidden, codeQuota, "creating a new job (for %s dataset) is not allowed: exceeded max jobs allowed (%d in every account of this platform)", dataset, most)
	}
	return nil
}

// CreateJob stores a job of j.AccountID and gives it its id. It has JobQuota's errors.
func (s *Store) CreateJob(ctx context.Context, j logjob.Job, most int) (logjob.Job, error) {
	err := s.write(ctx, "create job", func(t *tx) error {
		// The counter's row is locked from here on, so that two creations cannot
		// both take the last place.
		err := t.QueryRowContext(ctx, `UPDATE counters SET value = value + 1 WHERE name = 'job_id' RETURNING value`).Scan(&j.ID)
		if err != nil {
			return err
		}
		if err := jobQuota(ctx, t, j.AccountID, j.Dataset, most); err != nil {
			return err
		}
		j.Revision = 1
		if j.Enabled {
			j.EnabledAt = t.now
		}
		settings, err := settingsJSON(j, t.keys)
		if err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, `INSERT INTO jobs (id, account_id, settings_json, enabled_at, revision) VALUES ($1, $2, $3, $4, $5)`,
			j.ID, j.AccountID, settings, nullMicros(j.EnabledAt), j.Revision); err != nil {
			return err
		}
		if !j.Start.IsZero() {
			if _, err := createReplay(ctx, t, j.AccountID, j.ID, logjob.ReplayRequest{From: j.Start}); err != nil {
				return err
			}
		}
		return t.audit(ctx, j.AccountID, "job.create", fmt.Sprint(j.ID), nil, masked(j))
	})
	return j, err
}

// UpdateJob stores changed settings of a job that was read with j.Revision. When
// it was changed since, the error is a conflict. EnabledAt and Revision are set
// here; health stays as it is, but since when uploads fail: under other settings that
// begins anew. Of a job that is switched on is kept how far it had come, and not that it
// was switched off for failing.
func (s *Store) UpdateJob(ctx context.Context, j logjob.Job) (logjob.Job, error) {
	err := s.write(ctx, "update job", func(t *tx) error {
		before, err := jobByID(ctx, t, t.keys, j.AccountID, j.ID)
		if err != nil {
			return err
		}
		j.EnabledAt = before.EnabledAt
		resumes := j.Enabled && !before.Enabled
		var stopped logjob.Health
		if resumes {
			j.EnabledAt = t.now
			if err := readPartitions(ctx, t, j.ID, &stopped); err != nil {
				return err
			}
		}
		settings, err := settingsJSON(j, t.keys)
		if err != nil {
			return err
		}
		n, err := changed(ctx, t, `UPDATE jobs SET settings_json = $1, enabled_at = $2, revision = revision + 1,
			last_error = CASE WHEN $6 AND disabled_on IS NOT NULL THEN NULL ELSE last_error END,
			error_message = CASE WHEN $6 AND disabled_on IS NOT NULL THEN NULL ELSE error_message END,
			failing_since = NULL, disabled_on = CASE WHEN $6 THEN NULL ELSE disabled_on END,
			resumed_from = CASE WHEN $7 THEN CAST($8 AS BIGINT) ELSE resumed_from END
			WHERE account_id = $3 AND id = $4 AND revision = $5`,
			settings, nullMicros(j.EnabledAt), j.AccountID, j.ID, j.Revision, j.Enabled, resumes, nullMicros(stopped.CompleteUntil()))
		if err != nil {
			return err
		}
		if n == 0 {
			return jobMoved(j.ID)
		}
		if j, err = jobByID(ctx, t, t.keys, j.AccountID, j.ID); err != nil {
			return err
		}
		return t.audit(ctx, j.AccountID, "job.update", fmt.Sprint(j.ID), masked(before), masked(j))
	})
	return j, err
}

// DeleteJob removes a job. Its id is never given again. If revision is not 0 and not
// that of the job, the error is a conflict.
func (s *Store) DeleteJob(ctx context.Context, accountID string, id, revision int64) error {
	return s.write(ctx, "delete job", func(t *tx) error {
		before, err := jobByID(ctx, t, t.keys, accountID, id)
		if err != nil {
			return err
		}
		if revision != 0 && revision != before.Revision {
			return jobMoved(id)
		}
		// A write between the two statements changes the revision, too.
		n, err := changed(ctx, t, `DELETE FROM jobs WHERE account_id = $1 AND id = $2 AND revision = $3`, accountID, id, before.Revision)
		if err != nil {
			return err
		}
		if n == 0 {
			return jobMoved(id)
		}
		return t.audit(ctx, accountID, "job.delete", fmt.Sprint(id), masked(before), nil)
	})
}

func jobMoved(id int64) error {
	return errs.New(errs.Conflict, 0, "job %d was changed by somebody else meanwhile: read it again", id)
}

// ReportDelivery keeps a job's health: after a success the end of what was
// delivered, which never goes back, and no error; after a failure its time and
// text. A job that is gone, or was disabled because it failed for too long and keeps
// that message, is a not_found error.
func (s *Store) ReportDelivery(ctx context.Context, d logjob.Delivery) error {
	query, args := `UPDATE jobs SET last_error = $1, error_message = $2 WHERE id = $3 AND disabled_on IS NULL`,
		[]any{d.FailedAt.UnixMicro(), said(d.Message), d.JobID}
	if d.FailedAt.IsZero() {
		query, args = `UPDATE jobs SET last_error = NULL, error_message = NULL,
			last_complete = CASE WHEN last_complete > $1 THEN last_complete ELSE $1 END WHERE id = $2 AND disabled_on IS NULL`,
			[]any{d.CompleteUntil.UnixMicro(), d.JobID}
	}
	n, err := changed(ctx, s.writer, query, args...)
	if err != nil {
		return fmt.Errorf("report delivery of job %d: %w", d.JobID, err)
	}
	if n == 0 {
		return errs.New(errs.NotFound, 0, "job %d does not exist", d.JobID)
	}
	return nil
}
