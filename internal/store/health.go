package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
)

const (
	// healthHistory is how long minutes are kept, as Logpush's dashboard does.
	healthHistory = 30 * 24 * time.Hour
	// failuresMax are kept of one job.
	failuresMax = 100
)

// ReportHealth stores what a process tells of its jobs. It returns since when no
// upload of each job has succeeded, for jobs of which that is so. Jobs that are gone
// are left out.
func (s *Store) ReportHealth(ctx context.Context, reports []logjob.HealthReport) (failing map[int64]time.Time, err error) {
	failing = map[int64]time.Time{}
	err = s.write(ctx, "report the health of jobs", func(t *tx) error {
		for _, r := range reports {
			since, err := t.noteUploads(ctx, r)
			if errs.KindOf(err) == errs.NotFound {
				continue
			}
			if err == nil {
				err = t.addHealth(ctx, r)
			}
			if err == nil && !since.IsZero() && r.FailingSince.IsZero() {
				since, err = t.endFailing(ctx, r.JobID, since)
			}
			if err != nil {
				return fmt.Errorf("job %d: %w", r.JobID, err)
			}
			if !since.IsZero() {
				failing[r.JobID] = since
			}
		}
		return nil
	})
	return failing, err
}

// noteUploads keeps the time since which nothing has succeeded, on any machine. Where
// something did since the reporting machine began to fail, it is that of the report. What
// happened under other settings says nothing.
func (t *tx) noteUploads(ctx context.Context, r logjob.HealthReport) (since time.Time, err error) {
	var failing sql.NullInt64
	err = t.QueryRowContext(ctx, `UPDATE jobs SET failing_since = CASE
		WHEN CAST($5 AS BIGINT) NOT IN (0, revision) THEN failing_since WHEN $1 THEN $2 ELSE COALESCE(failing_since,
		CASE WHEN EXISTS (SELECT 1 FROM logpush_minutes m WHERE m.job_id = jobs.id AND m.minute_on > $2 AND m.status = 200)
		THEN CAST($4 AS BIGINT) ELSE CAST($2 AS BIGINT) END) END
		WHERE id = $3 RETURNING failing_since`, !r.SucceededAt.IsZero(), nullMicros(r.FailingSince), r.JobID, r.At.UnixMicro(), r.Revision).Scan(&failing)
	if errors.Is(err, sql.ErrNoRows) {
		return since, errs.New(errs.NotFound, 0, "job %d does not exist", r.JobID)
	}
	return fromNullMicros(failing), err
}

// endFailing forgets since when nothing has succeeded, where nothing of that time waits in
// any partition: what failed was left out meanwhile, by a deletion or because Kafka no longer
// had it. The next failure is a new one.
func (t *tx) endFailing(ctx context.Context, jobID int64, since time.Time) (time.Time, error) {
	n, err := changed(ctx, t, `UPDATE jobs SET failing_since = NULL WHERE id = $1
		AND EXISTS (SELECT 1 FROM logpush_partitions WHERE job_id = $1)
		AND NOT EXISTS (SELECT 1 FROM logpush_partitions WHERE job_id = $1 AND (message <> ''
			OR next_offset > committed AND (oldest_on IS NULL OR oldest_on <= $2)))`, jobID, since.UnixMicro())
	if err != nil || n == 0 {
		return since, err
	}
	return time.Time{}, nil
}

func (t *tx) addHealth(ctx context.Context, r logjob.HealthReport) error {
	exec := func(query string, args ...any) error {
		_, err := t.ExecContext(ctx, query, args...)
		return err
	}
	var failed []error
	for _, p := range r.Partitions {
		failed = append(failed, exec(`INSERT INTO logpush_partitions (job_id, "partition", reported_on, committed, next_offset, oldest_on, message)
			VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (job_id, "partition") DO UPDATE SET reported_on = excluded.reported_on,
			committed = excluded.committed, next_offset = excluded.next_offset, oldest_on = excluded.oldest_on, message = excluded.message`,
			r.JobID, p.Partition, p.ReportedOn.UnixMicro(), p.Committed, p.Next, nullMicros(p.OldestOn), said(p.Message)))
	}
	for _, m := range r.Minutes {
		failed = append(failed, exec(`INSERT INTO logpush_minutes (job_id, minute_on, status, final, destination_type, destination,
			uploads, records, bytes, bytes_compressed, duration_ms, duration_max_ms)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
			ON CONFLICT (job_id, minute_on, status, final, destination_type, destination) DO UPDATE SET
			uploads = logpush_minutes.uploads + excluded.uploads, records = logpush_minutes.records + excluded.records,
			bytes = logpush_minutes.bytes + excluded.bytes, bytes_compressed = logpush_minutes.bytes_compressed + excluded.bytes_compressed,
			duration_ms = logpush_minutes.duration_ms + excluded.duration_ms,
			duration_max_ms = CASE WHEN excluded.duration_max_ms > logpush_minutes.duration_max_ms THEN excluded.duration_max_ms ELSE logpush_minutes.duration_max_ms END`,
			r.JobID, m.Minute.UnixMicro(), m.Status, m.Final, m.DestinationType, m.Destination,
			m.Uploads.Uploads, m.Records, m.Bytes, m.BytesCompressed, m.DurationMS, m.DurationMaxMS))
	}
	for _, d := range r.Drops {
		failed = append(failed, exec(`INSERT INTO logpush_drops (job_id, minute_on, reason, events) VALUES ($1, $2, $3, $4)
			ON CONFLICT (job_id, minute_on, reason) DO UPDATE SET events = logpush_drops.events + excluded.events`,
			r.JobID, d.Minute.UnixMicro(), d.Reason, d.Events))
	}
	for _, f := range r.Failures {
		failed = append(failed, exec(`INSERT INTO logpush_failures (id, job_id, "partition", first_on, last_on, times, message)
			VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO UPDATE SET last_on = excluded.last_on, times = excluded.times`,
			f.ID, r.JobID, f.Partition, f.FirstOn.UnixMicro(), f.LastOn.UnixMicro(), f.Times, said(f.Message)))
	}
	if len(r.Failures) > 0 {
		failed = append(failed, exec(`DELETE FROM logpush_failures WHERE job_id = $1 AND id NOT IN
			(SELECT id FROM logpush_failures WHERE job_id = $1 ORDER BY last_on DESC, id LIMIT $2)`, r.JobID, failuresMax))
	}
	return errors.Join(failed...)
}

// SweepHealth removes minutes that are older than what is kept.
func (s *Store) SweepHealth(ctx context.Context) error {
	before := s.now().Add(-healthHistory).UnixMicro()
	for _, table := range []string{"logpush_minutes", "logpush_drops"} {
		if _, err := s.writer.ExecContext(ctx, `DELETE FROM `+table+` WHERE minute_on < $1`, before); err != nil { // #nosec G202 -- of two names
			return fmt.Errorf("sweep %s: %w", table, err)
		}
	}
	return nil
}

// DisableFailingJob switches a job off that was read with a revision and has failed
// since a time, and says why in its error_message. It reports false when that is no
// longer so: the job was changed, or an upload succeeded meanwhile.
func (s *Store) DisableFailingJob(ctx context.Context, id, revision int64, since time.Time, message string) (disabled bool, err error) {
	err = s.write(ctx, "disable a failing job", func(t *tx) error {
		var accountID string
		err := t.QueryRowContext(ctx, `UPDATE jobs SET disabled_on = $1, last_error = $1, error_message = $2
			WHERE id = $3 AND revision = $4 AND failing_since = $5 AND disabled_on IS NULL RETURNING account_id`,
			t.now.UnixMicro(), said(message), id, revision, since.UnixMicro()).Scan(&accountID)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		before, err := jobByID(ctx, t, t.keys, accountID, id)
		if err != nil {
			return err
		}
		disabled = true
		return t.disableJob(ctx, before)
	})
	return disabled, err
}

// disableJob switches a job off that was read in the same transaction.
func (t *tx) disableJob(ctx context.Context, before logjob.Job) error {
	after := before
	after.Enabled = false
	settings, err := settingsJSON(after, t.keys)
	if err != nil {
		return err
	}
	if _, err := t.ExecContext(ctx, `UPDATE jobs SET settings_json = $1, revision = revision + 1 WHERE id = $2`, settings, before.ID); err != nil {
		return err
	}
	return t.audit(ctx, before.AccountID, "job.disable", fmt.Sprint(before.ID), masked(before), masked(after))
}

// JobHealth returns what is known of one job, with the minutes since a time.
func (s *Store) JobHealth(ctx context.Context, accountID string, id int64, since time.Time) (h logjob.Health, err error) {
	err = s.read(ctx, "read the health of a job", func(t *sql.Tx) error {
		if _, err := jobByID(ctx, t, s.keys, accountID, id); err != nil {
			return err
		}
		var failing, disabled, resumed sql.NullInt64
		if err := t.QueryRowContext(ctx, `SELECT failing_since, disabled_on, resumed_from,
			(SELECT COUNT(*) FROM dead_letters WHERE job_id = $1 AND state = $2) FROM jobs WHERE id = $1`,
			id, logjob.LetterNew).Scan(&failing, &disabled, &resumed, &h.Letters); err != nil {
			return err
		}
		h.FailingSince, h.DisabledOn, h.ResumedFrom = fromNullMicros(failing), fromNullMicros(disabled), fromNullMicros(resumed)
		if err := readPartitions(ctx, t, id, &h); err != nil {
			return err
		}
		if err := each(ctx, t, func(row scanner) error {
			f, err := scanFailure(row)
			h.Failures = append(h.Failures, f)
			return err
		}, `SELECT `+failureColumns+` FROM logpush_failures f WHERE job_id = $1 ORDER BY last_on DESC, id LIMIT $2`, id, failuresMax); err != nil {
			return err
		}
		h.Drops = map[string]int64{}
		if err := each(ctx, t, func(row scanner) error {
			var reason string
			var events int64
			err := row.Scan(&reason, &events)
			h.Drops[reason] = events
			return err
		}, `SELECT reason, CAST(SUM(events) AS BIGINT) FROM logpush_drops WHERE job_id = $1 AND minute_on >= $2 GROUP BY reason`, id, since.UnixMicro()); err != nil {
			return err
		}
		h.Minutes, err = minutes(ctx, t, logjob.HealthFilter{AccountID: accountID, JobID: id, Since: since, Until: s.now().Add(time.Hour)})
		return err
	})
	return h, err
}

// AccountHealth returns what is known of an account's jobs now, by their ids: without
// minutes and drops, and of failures only the newest.
func (s *Store) AccountHealth(ctx context.Context, accountID string) (map[int64]logjob.Health, error) {
	list := map[int64]logjob.Health{}
	err := s.read(ctx, "read the health of jobs", func(t *sql.Tx) error {
		if err := each(ctx, t, func(row scanner) error {
			var id int64
			var failing, disabled sql.NullInt64
			var h logjob.Health
			err := row.Scan(&id, &failing, &disabled, &h.Letters)
			h.FailingSince, h.DisabledOn = fromNullMicros(failing), fromNullMicros(disabled)
			list[id] = h
			return err
		}, `SELECT id, failing_since, disabled_on, (SELECT COUNT(*) FROM dead_letters WHERE job_id = jobs.id AND state = $2)
			FROM jobs WHERE account_id = $1`, accountID, logjob.LetterNew); err != nil {
			return err
		}
		if err := each(ctx, t, func(row scanner) error {
			var id int64
			p, err := scanPartition(row, &id)
			h := list[id]
			h.Partitions = append(h.Partitions, p)
			list[id] = h
			return err
		}, `SELECT job_id, `+partitionColumns+` FROM logpush_partitions
			WHERE job_id IN (SELECT id FROM jobs WHERE account_id = $1) ORDER BY job_id, "partition"`, accountID); err != nil {
			return err
		}
		return each(ctx, t, func(row scanner) error {
			var id int64
			f, err := scanFailure(row, &id)
			h := list[id]
			h.Failures = []logjob.Failure{f}
			list[id] = h
			return err
		}, `SELECT j.id, `+failureColumns+` FROM jobs j JOIN logpush_failures f ON f.id =
			(SELECT id FROM logpush_failures WHERE job_id = j.id ORDER BY last_on DESC, id LIMIT 1) WHERE j.account_id = $1`, accountID)
	})
	return list, err
}

const partitionColumns = `"partition", reported_on, committed, next_offset, oldest_on, message`

// scanPartition reads the columns of before, and then those of a partition.
func scanPartition(row scanner, before ...any) (p logjob.PartitionHealth, err error) {
	var reported int64
	var oldest sql.NullInt64
	err = row.Scan(append(before, &p.Partition, &reported, &p.Committed, &p.Next, &oldest, &p.Message)...)
	p.ReportedOn, p.OldestOn = fromMicros(reported), fromNullMicros(oldest)
	return p, err
}

const failureColumns = `f.id, f."partition", f.first_on, f.last_on, f.times, f.message`

// scanFailure reads the columns of before, and then those of a failure.
func scanFailure(row scanner, before ...any) (f logjob.Failure, err error) {
	var first, last int64
	err = row.Scan(append(before, &f.ID, &f.Partition, &first, &last, &f.Times, &f.Message)...)
	f.FirstOn, f.LastOn = fromMicros(first), fromMicros(last)
	return f, err
}

func readPartitions(ctx context.Context, q querier, id int64, h *logjob.Health) error {
	return each(ctx, q, func(row scanner) error {
		p, err := scanPartition(row)
		h.Partitions = append(h.Partitions, p)
		return err
	}, `SELECT `+partitionColumns+` FROM logpush_partitions WHERE job_id = $1 ORDER BY "partition"`, id)
}

// HealthMinutes returns the minutes of an account's jobs from f.Since until, not
// including, f.Until. Beyond f.Most it is too_large.
func (s *Store) HealthMinutes(ctx context.Context, f logjob.HealthFilter) ([]logjob.MinuteHealth, error) {
	list, err := minutes(ctx, s.reader, f)
	if err != nil {
		return nil, fmt.Errorf("read the health of jobs: %w", err)
	}
	return list, nil
}

func minutes(ctx context.Context, q querier, f logjob.HealthFilter) (list []logjob.MinuteHealth, err error) {
	limit := int64(math.MaxInt64)
	if f.Most > 0 {
		limit = int64(f.Most) + 1
	}
	err = each(ctx, q, func(row scanner) error {
		var m logjob.MinuteHealth
		var minute int64
		err := row.Scan(&m.JobID, &minute, &m.Status, &m.Final, &m.DestinationType, &m.Destination,
			&m.Uploads.Uploads, &m.Records, &m.Bytes, &m.BytesCompressed, &m.DurationMS, &m.DurationMaxMS)
		m.Minute = fromMicros(minute)
		list = append(list, m)
		return err
	}, `SELECT m.job_id, m.minute_on, m.status, m.final, m.destination_type, m.destination,
		m.uploads, m.records, m.bytes, m.bytes_compressed, m.duration_ms, m.duration_max_ms
		FROM logpush_minutes m JOIN jobs j ON j.id = m.job_id
		WHERE j.account_id = $1 AND ($2 = 0 OR m.job_id = $2) AND m.minute_on >= $3 AND m.minute_on < $4
		ORDER BY m.minute_on, m.job_id, m.status, m.final LIMIT $5`, f.AccountID, f.JobID, f.Since.UnixMicro(), f.Until.UnixMicro(), limit)
	if err == nil && f.Most > 0 && len(list) > f.Most {
		return nil, errs.New(errs.TooLarge, 0, "more than %d minutes of jobs were asked for: ask for a shorter time, or for one job", f.Most)
	}
	return list, err
}
