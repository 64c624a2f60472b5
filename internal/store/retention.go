package store

import (
	"context"
	"time"
)

// sweptAtOnce bounds how long a sweep keeps others from writing: rows of one transaction.
const sweptAtOnce = 500

// SweepAuditLog removes the oldest entries from before a time, sweptAtOnce of them at most, and
// returns how many. It leaves none itself: how long entries are kept is a setting, and one about
// each sweep would be kept in place of what went.
func (s *Store) SweepAuditLog(ctx context.Context, before time.Time) (removed int64, err error) {
	err = s.write(ctx, "sweep the audit log", func(t *tx) error {
		removed, err = changed(ctx, t, `DELETE FROM audit_log WHERE id IN (
			SELECT id FROM audit_log WHERE happened_on < $1 ORDER BY happened_on LIMIT $2)`, before.UnixMicro(), sweptAtOnce)
		return err
	})
	return removed, err
}

// SweepDecisions removes the oldest decisions from before a time, sweptAtOnce of them at most, and
// returns how many. Whatever their age, those stay that the controller goes by, which are about
// the deployment that serves its script, and the one that made this deployment. The latter is
// found in the text, as encoding/json writes it; an id has nothing that LIKE takes for more.
func (s *Store) SweepDecisions(ctx context.Context, before time.Time) (removed int64, err error) {
	err = s.write(ctx, "sweep the decisions", func(t *tx) error {
		removed, err = changed(ctx, t, `DELETE FROM decisions WHERE id IN (
			SELECT x.id FROM decisions x WHERE x.decided_on < $1 AND NOT EXISTS (
				SELECT 1 FROM scripts s JOIN deployments d ON d.account_id = s.account_id AND d.script = s.name AND d.number = s.last_deployment
				WHERE s.account_id = x.account_id AND s.name = x.script
				AND (d.id = x.from_deployment OR x.decision_json LIKE '%"to_deployment":"' || d.id || '"%'))
			ORDER BY x.decided_on LIMIT $2)`, before.UnixMicro(), sweptAtOnce)
		return err
	})
	return removed, err
}
