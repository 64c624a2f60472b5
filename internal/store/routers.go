package store

import (
	"context"
	"fmt"
	"time"

	"tidegate/internal/deploy"
)

// cronRunsKept is how long a claimed run is remembered: much longer than clocks of
// routers differ, and than one of them asks.
const cronRunsKept = time.Hour

// ClaimCron reports whether the caller is the first to claim a run of a schedule.
// It compares and sets in one statement, so of several routers only one is.
func (s *Store) ClaimCron(ctx context.Context, accountID, script, cron string, at time.Time) (bool, error) {
	what := fmt.Sprintf("claim the run of %q of script %s", cron, script)
	claimed := false
	err := s.write(ctx, what, func(t *tx) error {
		if _, err := t.ExecContext(ctx, `DELETE FROM cron_runs WHERE scheduled_on < $1`, t.now.Add(-cronRunsKept).UnixMicro()); err != nil {
			return err
		}
		if at.Before(t.now.Add(-cronRunsKept)) {
			return nil // nobody's: whether somebody had it is forgotten
		}
		n, err := changed(ctx, t, `INSERT INTO cron_runs (account_id, script, cron, scheduled_on) VALUES ($1, $2, $3, $4)
			ON CONFLICT DO NOTHING`, accountID, script, cron, at.UnixMicro())
		claimed = n == 1
		return err
	})
	return claimed && err == nil, err
}

// clockAheadMax is far more than clocks differ that somebody looks after: what is later was
// written by one that was wrong.
const clockAheadMax = 5 * time.Minute

// SaveReports keeps what routers say of versions, the newest word of each router
// on each version, but for one that a clock which was wrong put into the future. Reports of
// versions that do not exist are left out.
func (s *Store) SaveReports(ctx context.Context, reports []deploy.VersionReport) error {
	return s.write(ctx, "save reports of versions", func(t *tx) error {
		for _, r := range reports {
			// The cast tells PostgreSQL what the parameters of a SELECT are.
			_, err := t.ExecContext(ctx, `INSERT INTO version_reports (version_id, router_id, account_id, script, phase, error, reported_on)
				SELECT v.id, CAST($1 AS TEXT), v.account_id, v.script, CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS BIGINT)
				FROM versions v WHERE v.id = $5 AND v.account_id = $6 AND v.script = $7
				ON CONFLICT (version_id, router_id) DO UPDATE SET phase = excluded.phase, error = excluded.error, reported_on = excluded.reported_on
				WHERE version_reports.reported_on <= excluded.reported_on OR version_reports.reported_on > $8`,
				r.RouterID, string(r.Phase), said(r.Error), r.At.UnixMicro(), r.VersionID, r.AccountID, r.Script, t.now.Add(clockAheadMax).UnixMicro())
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Reports returns what routers say of a script's versions, in the order of
// versions and routers.
func (s *Store) Reports(ctx context.Context, accountID, script string) ([]deploy.VersionReport, error) {
	var list []deploy.VersionReport
	err := each(ctx, s.reader, func(row scanner) error {
		r := deploy.VersionReport{AccountID: accountID, Script: script}
		var at int64
		err := row.Scan(&r.VersionID, &r.RouterID, &r.Phase, &r.Error, &at)
		r.At = fromMicros(at)
		list = append(list, r)
		return err
	}, `SELECT version_id, router_id, phase, error, reported_on FROM version_reports
		WHERE account_id = $1 AND script = $2 ORDER BY version_id, router_id`, accountID, script)
	if err != nil {
		return nil, fmt.Errorf("read reports of script %s: %w", script, err)
	}
	return list, nil
}
