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

// letterHistory is how long a dead letter that was sent again or deleted is
// remembered: far longer than a batch can be repeated.
const letterHistory = 30 * 24 * time.Hour

const letterColumns = `d.id, d.job_id, d."partition", d.batch_id, d.begin_offset, d.end_offset, d.records, d.from_on, d.until_on,
	d.status, d.reason, d.attempts, d.state, d.bytes, d.created_on, d.closed_on`

func letterFields(l *logjob.DeadLetter, from, until, created *int64, closed *sql.NullInt64) []any {
	return []any{&l.ID, &l.JobID, &l.Partition, &l.BatchID, &l.BeginOffset, &l.EndOffset, &l.Records, from, until,
		&l.Status, &l.Reason, &l.Attempts, &l.State, &l.Bytes, created, closed}
}

func scanLetter(row scanner, more ...any) (l logjob.DeadLetter, err error) {
	var from, until, created int64
	var closed sql.NullInt64
	if err := row.Scan(append(letterFields(&l, &from, &until, &created, &closed), more...)...); err != nil {
		return l, err
	}
	l.From, l.Until, l.CreatedOn = fromMicros(from), fromMicros(until), fromMicros(created)
	if l.State == logjob.LetterResent && closed.Valid {
		at := fromMicros(closed.Int64)
		l.ResentOn = &at
	}
	return l, nil
}

// AddDeadLetter keeps a letter; id, state and time are given here. One that is known
// already, or was, changes nothing. At the job's limits the error is too_large, and
// when the job is gone not_found.
func (s *Store) AddDeadLetter(ctx context.Context, l logjob.DeadLetter, limits logjob.LetterLimits) error {
	return s.write(ctx, "add dead letter", func(t *tx) error {
		// The job's row is locked from here on: two letters cannot both take the last place.
		var revision int64
		err := t.QueryRowContext(ctx, `UPDATE jobs SET revision = revision WHERE id = $1 RETURNING revision`, l.JobID).Scan(&revision)
		if errors.Is(err, sql.ErrNoRows) {
			return errs.New(errs.NotFound, 0, "job %d does not exist", l.JobID)
		}
		if err != nil {
			return err
		}
		var known int
		if err := t.QueryRowContext(ctx, `SELECT COUNT(*) FROM dead_letters
			WHERE job_id = $1 AND "partition" = $2 AND begin_offset = $3 AND end_offset = $4 AND batch_id = $5`,
			l.JobID, l.Partition, l.BeginOffset, l.EndOffset, l.BatchID).Scan(&known); err != nil || known > 0 {
			return err
		}
		object, err := toJSON(l.Object)
		if err != nil {
			return err
		}
		l.Bytes = int64(len(l.Body) + len(object))
		if err := t.checkLetterLimits(ctx, l, limits); err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, `DELETE FROM dead_letters WHERE job_id = $1 AND closed_on < $2`,
			l.JobID, t.now.Add(-letterHistory).UnixMicro()); err != nil {
			return err
		}
		_, err = t.ExecContext(ctx, `INSERT INTO dead_letters (id, job_id, "partition", batch_id, begin_offset, end_offset, records,
			from_on, until_on, status, reason, attempts, state, bytes, created_on, object_json, body)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`,
			newHexID(), l.JobID, l.Partition, l.BatchID, l.BeginOffset, l.EndOffset, l.Records, l.From.UnixMicro(), l.Until.UnixMicro(),
			l.Status, said(l.Reason), l.Attempts, logjob.LetterNew, l.Bytes, t.now.UnixMicro(), object, l.Body)
		return err
	})
}

func (t *tx) checkLetterLimits(ctx context.Context, l logjob.DeadLetter, limits logjob.LetterLimits) error {
	var letters, bytes int64
	if err := t.QueryRowContext(ctx, `SELECT COUNT(*), CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM dead_letters WHERE job_id = $1 AND state = $2`,
		l.JobID, logjob.LetterNew).Scan(&letters, &bytes); err != nil {
		return err
	}
	// One that is larger than the limit goes in alone: it would wait for room for ever.
	if limits.Letters > 0 && letters >= limits.Letters || limits.Bytes > 0 && letters > 0 && bytes+l.Bytes > limits.Bytes {
		return errs.New(errs.TooLarge, 0,
			"the dead letters of job %d are full: %d letters with %d bytes are there, %d bytes are to be added, and the limits are %d letters and %d bytes: send letters again or delete them",
			l.JobID, letters, bytes, l.Bytes, limits.Letters, limits.Bytes)
	}
	return nil
}

// DeadLetters returns letters of a job without their content, oldest first. State
// "" is any; total counts all of them.
func (s *Store) DeadLetters(ctx context.Context, accountID string, jobID int64, state string, limit, offset int) (list []logjob.DeadLetter, total int, err error) {
	err = s.read(ctx, "list dead letters", func(t *sql.Tx) error {
		if _, err := jobByID(ctx, t, s.keys, accountID, jobID); err != nil {
			return err
		}
		if err := t.QueryRowContext(ctx, `SELECT COUNT(*) FROM dead_letters WHERE job_id = $1 AND ($2 = '' OR state = $2)`,
			jobID, state).Scan(&total); err != nil {
			return err
		}
		return each(ctx, t, func(row scanner) error {
			l, err := scanLetter(row)
			list = append(list, l)
			return err
		}, `SELECT `+letterColumns+` FROM dead_letters d WHERE d.job_id = $1 AND ($2 = '' OR d.state = $2)
			ORDER BY d.created_on, d."partition", d.begin_offset, d.id LIMIT $3 OFFSET $4`, jobID, state, limit, offset)
	})
	return list, total, err
}

// WaitingLetters returns letters of a job that wait to be sent again, without their
// content, those first that were tried the fewest times: some that are refused for ever
// keep none from its turn. Total counts all of them.
func (s *Store) WaitingLetters(ctx context.Context, accountID string, jobID int64, limit int) (list []logjob.DeadLetter, total int, err error) {
	err = s.read(ctx, "list dead letters that wait", func(t *sql.Tx) error {
		if _, err := jobByID(ctx, t, s.keys, accountID, jobID); err != nil {
			return err
		}
		if err := t.QueryRowContext(ctx, `SELECT COUNT(*) FROM dead_letters WHERE job_id = $1 AND state = $2`,
			jobID, logjob.LetterNew).Scan(&total); err != nil {
			return err
		}
		return each(ctx, t, func(row scanner) error {
			l, err := scanLetter(row)
			list = append(list, l)
			return err
		}, `SELECT `+letterColumns+` FROM dead_letters d WHERE d.job_id = $1 AND d.state = $2
			ORDER BY d.attempts, d.created_on, d."partition", d.begin_offset, d.id LIMIT $3`, jobID, logjob.LetterNew, limit)
	})
	return list, total, err
}

// DeadLetter returns one letter with its content, which is nil once it is closed.
func (s *Store) DeadLetter(ctx context.Context, accountID string, jobID int64, id string) (logjob.DeadLetter, error) {
	l, err := letterByID(ctx, s.reader, accountID, jobID, id)
	if err != nil {
		return l, fmt.Errorf("read dead letter: %w", err)
	}
	return l, nil
}

func letterByID(ctx context.Context, q querier, accountID string, jobID int64, id string) (logjob.DeadLetter, error) {
	var object string
	var body []byte
	l, err := scanLetter(q.QueryRowContext(ctx, `SELECT `+letterColumns+`, d.object_json, d.body FROM dead_letters d
		JOIN jobs j ON j.id = d.job_id WHERE j.account_id = $1 AND d.job_id = $2 AND d.id = $3`, accountID, jobID, id), &object, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return l, errs.New(errs.NotFound, 0, "job %d has no dead letter %q", jobID, id)
	}
	if err != nil {
		return l, err
	}
	l.Body = body
	return l, fromJSON(object, &l.Object)
}

// CloseDeadLetter lets go of a letter's content because it was resent or is deleted.
// One that is closed already is a conflict.
func (s *Store) CloseDeadLetter(ctx context.Context, accountID string, jobID int64, id, state string) (logjob.DeadLetter, error) {
	var l logjob.DeadLetter
	err := s.write(ctx, "close dead letter", func(t *tx) error {
		before, err := letterByID(ctx, t, accountID, jobID, id)
		if err != nil {
			return err
		}
		n, err := changed(ctx, t, `UPDATE dead_letters SET state = $1, closed_on = $2, body = NULL, object_json = '{}', bytes = 0
			WHERE id = $3 AND state = $4`, state, t.now.UnixMicro(), id, logjob.LetterNew)
		if err != nil {
			return err
		}
		if n == 0 {
			return errs.New(errs.Conflict, 0, "dead letter %q was %s before", id, before.State)
		}
		if l, err = letterByID(ctx, t, accountID, jobID, id); err != nil {
			return err
		}
		return t.audit(ctx, accountID, "dead_letter."+state, fmt.Sprintf("%d/%s", jobID, id), before, l)
	})
	return l, err
}

// RefuseDeadLetter notes that a letter was sent again in vain.
func (s *Store) RefuseDeadLetter(ctx context.Context, id string, status int, reason string) error {
	_, err := s.writer.ExecContext(ctx, `UPDATE dead_letters SET status = $1, reason = $2, attempts = attempts + 1 WHERE id = $3 AND state = $4`,
		status, said(reason), id, logjob.LetterNew)
	if err != nil {
		return fmt.Errorf("note the refusal of dead letter %s: %w", id, err)
	}
	return nil
}
