package store

import (
	"context"
	"database/sql"

	"tidegate/internal/deploy"
)

// Schedules returns the schedules of a script, oldest first, or a not_found error.
func (s *Store) Schedules(ctx context.Context, accountID, name string) ([]deploy.Schedule, error) {
	var list []deploy.Schedule
	err := s.read(ctx, "list schedules", func(t *sql.Tx) (err error) {
		if _, err := script(ctx, t, accountID, name); err != nil {
			return err
		}
		list, err = schedules(ctx, t, accountID, name)
		return err
	})
	return list, err
}

func schedules(ctx context.Context, q querier, accountID, name string) ([]deploy.Schedule, error) {
	var list []deploy.Schedule
	err := each(ctx, q, func(row scanner) error {
		var one deploy.Schedule
		var created int64
		err := row.Scan(&one.Cron, &created)
		one.CreatedOn = fromMicros(created)
		list = append(list, one)
		return err
	}, `SELECT cron, created_on FROM schedules WHERE account_id = $1 AND script = $2 ORDER BY created_on, cron`, accountID, name)
	return list, err
}

// SetSchedules replaces the schedules of a script with valid, different
// expressions. One that was there already stays as it is.
func (s *Store) SetSchedules(ctx context.Context, accountID, name string, crons []string) error {
	return s.write(ctx, "set schedules", func(t *tx) error {
		if _, _, err := t.lockScript(ctx, accountID, name); err != nil {
			return err
		}
		before, err := schedules(ctx, t, accountID, name)
		if err != nil {
			return err
		}
		since := make(map[string]int64, len(before))
		was := make([]string, len(before))
		for i, one := range before {
			was[i], since[one.Cron] = one.Cron, one.CreatedOn.UnixMicro()
		}
		if _, err := t.ExecContext(ctx, `DELETE FROM schedules WHERE account_id = $1 AND script = $2`, accountID, name); err != nil {
			return err
		}
		for _, cron := range crons {
			created, known := since[cron]
			if !known {
				created = t.now.UnixMicro()
			}
			if _, err := t.ExecContext(ctx, `INSERT INTO schedules (account_id, script, cron, created_on) VALUES ($1, $2, $3, $4)`,
				accountID, name, cron, created); err != nil {
				return err
			}
		}
		if err := t.audit(ctx, accountID, "script.schedules", name, was, crons); err != nil {
			return err
		}
		return t.publish(ctx)
	})
}
