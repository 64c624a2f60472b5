package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/seal"
	"tidegate/schema/control"
)

// routersKept is how long a router is remembered that fell silent.
const routersKept = 7 * 24 * time.Hour

// routerGone is how long one is silent that left its place to another process, whose start
// may be earlier by a clock that was put back, or because the later one died taking over.
const routerGone = 3 * control.RouterReportEvery

// SaveRouter keeps what a router tells of itself, or forgets it if it says good-bye. What
// an older process of the same name tells is left out, as long as the newer one reports:
// during a take-over there are two.
func (s *Store) SaveRouter(ctx context.Context, r control.RouterState) error {
	state, err := toJSON(r)
	if err != nil {
		return fmt.Errorf("save router %s: %w", r.ID, err)
	}
	return s.write(ctx, "save router "+r.ID, func(t *tx) error {
		if _, err := t.ExecContext(ctx, `DELETE FROM routers WHERE reported_on < $1`, t.now.Add(-routersKept).UnixMicro()); err != nil {
			return err
		}
		if r.Stopping {
			_, err := t.ExecContext(ctx, `DELETE FROM routers WHERE id = $1 AND started_on <= $2`, r.ID, r.StartedOn.UnixMicro())
			return err
		}
		_, err := t.ExecContext(ctx, `INSERT INTO routers (id, started_on, seen_since, reported_on, state_json) VALUES ($1, $2, $3, $3, $4)
			ON CONFLICT (id) DO UPDATE SET started_on = excluded.started_on, reported_on = excluded.reported_on, state_json = excluded.state_json
			WHERE routers.started_on <= excluded.started_on OR routers.reported_on < $5`,
			r.ID, r.StartedOn.UnixMicro(), t.now.UnixMicro(), state, t.now.Add(-routerGone).UnixMicro())
		return err
	})
}

// SystemFacts fills in what the database knows, on one picture of it.
func (s *Store) SystemFacts(ctx context.Context, facts *control.SystemFacts) error {
	facts.DatabaseKind = "SQLite"
	if s.reader == s.writer {
		facts.DatabaseKind = "PostgreSQL"
	}
	return s.read(ctx, "look at the state of the system", func(t *sql.Tx) error {
		if err := t.QueryRowContext(ctx, `SELECT value FROM counters WHERE name = 'revision'`).Scan(&facts.Revision); err != nil {
			return err
		}
		var err error
		if facts.Routers, err = routers(ctx, t); err != nil {
			return err
		}
		if facts.Rollback, err = leaseOf(ctx, t, "rollback"); err != nil {
			return err
		}
		var oldest sql.NullInt64
		if err := t.QueryRowContext(ctx, `SELECT COUNT(*), MIN(created_on) FROM notifications WHERE state = $1`, deploy.NotificationWaiting).Scan(&facts.Outbox.Waiting, &oldest); err != nil {
			return err
		}
		facts.Outbox.OldestOn = fromNullMicros(oldest)
		if err := t.QueryRowContext(ctx, `SELECT COUNT(*) FROM notifications WHERE state = $1 AND tried_on >= $2`,
			deploy.NotificationFailed, s.now().Add(-24*time.Hour).UnixMicro()).Scan(&facts.Outbox.FailedToday); err != nil {
			return err
		}
		facts.Delivery, err = deliveries(ctx, t, s.keys)
		return err
	})
}

func routers(ctx context.Context, t *sql.Tx) (list []control.RouterState, err error) {
	err = each(ctx, t, func(row scanner) error {
		var r control.RouterState
		var since, reported int64
		var state string
		if err := row.Scan(&since, &reported, &state); err != nil {
			return err
		}
		err := fromJSON(state, &r)
		r.SeenSince, r.ReportedOn = fromMicros(since), fromMicros(reported)
		list = append(list, r)
		return err
	}, `SELECT seen_since, reported_on, state_json FROM routers ORDER BY id`)
	return list, err
}

// leaseOf returns nil where nobody has the lease, or had it last.
func leaseOf(ctx context.Context, t *sql.Tx, name string) (*control.Lease, error) {
	var l control.Lease
	var expires int64
	err := t.QueryRowContext(ctx, `SELECT holder, expires_on FROM leases WHERE name = $1`, name).Scan(&l.Holder, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	l.ExpiresOn = fromMicros(expires)
	return &l, err
}

func deliveries(ctx context.Context, t *sql.Tx, keys *seal.Keys) (list []control.DeliveryState, err error) {
	err = each(ctx, t, func(row scanner) error {
		var d control.DeliveryState
		var settings struct {
			Name    string `json:"name"`
			Enabled bool   `json:"enabled"`
		}
		var text string
		var enabled, failing, disabled, reported, lag, oldest sql.NullInt64
		if err := row.Scan(&d.JobID, &d.AccountID, &text, &enabled, &failing, &disabled, &reported, &lag, &oldest); err != nil {
			return err
		}
		err := openJSON(keys, text, &settings, jobPlace(d.AccountID, d.JobID))
		d.Name, d.Enabled, d.EnabledOn = settings.Name, settings.Enabled, fromNullMicros(enabled)
		d.FailingSince, d.DisabledOn, d.ReportedOn = fromNullMicros(failing), fromNullMicros(disabled), fromNullMicros(reported)
		d.LagEvents, d.OldestEventOn = lag.Int64, fromNullMicros(oldest)
		list = append(list, d)
		return err
	}, `SELECT j.id, j.account_id, j.settings_json, j.enabled_at, j.failing_since, j.disabled_on,
			MIN(p.reported_on), CAST(SUM(CASE WHEN p.next_offset > p.committed THEN p.next_offset - p.committed ELSE 0 END) AS BIGINT),
			CASE WHEN SUM(CASE WHEN p.next_offset > p.committed AND p.oldest_on IS NULL THEN 1 ELSE 0 END) = 0
				THEN MIN(CASE WHEN p.next_offset > p.committed THEN p.oldest_on END) END
		FROM jobs j LEFT JOIN logpush_partitions p ON p.job_id = j.id
		GROUP BY j.id, j.account_id, j.settings_json, j.enabled_at, j.failing_since, j.disabled_on ORDER BY j.id`)
	return list, err
}
