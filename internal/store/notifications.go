package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/deploy"
	"tidegate/internal/seal"
	"tidegate/internal/telemetry"
)

// Bounds of the outbox.
const (
	notificationsWaitingMax = 1000                // of one account; more are dropped and counted
	notificationsTargetMax  = 100                 // of those for one target: a dead one takes the room of no other
	notificationsKeptMax    = 100                 // of one script that are sent, failed or dropped; also the length of the list
	notificationHistory     = 30 * 24 * time.Hour // how long those are kept
	// notificationsAtOnce is how many tries one account may have under way: one whose
	// targets all hang leaves room for the others.
	notificationsAtOnce = 8
)

const notificationColumns = `id, account_id, script, kind, target_type, target_json, decision_json, created_on, ended_on, state, attempts, next_try, tried_on, error`

// errUnreadable is a message whose target or decision cannot be decoded. What can be
// read of it comes with the error.
var errUnreadable = errors.New("the stored message cannot be read")

func scanNotification(row scanner, keys *seal.Keys) (n deploy.Notification, err error) {
	var kind deploy.NotifyType
	var target, decision string
	var created, next int64
	var ended, tried sql.NullInt64
	if err := row.Scan(&n.ID, &n.AccountID, &n.Script, &n.On, &kind, &target, &decision, &created, &ended, &n.State, &n.Attempts, &next, &tried, &n.LastError); err != nil {
		return n, err
	}
	n.CreatedOn, n.EndedOn, n.NextTry, n.TriedOn = fromMicros(created), fromNullMicros(ended), fromMicros(next), fromNullMicros(tried)
	err = errors.Join(openJSON(keys, target, &n.Target, targetPlace(n.AccountID, n.ID)), fromJSON(decision, &n.Decision))
	n.Target.Type = kind
	if errors.Is(err, seal.ErrNoKey) { // others can read it: nothing is given up for that
		return n, err
	}
	if err != nil {
		return n, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return n, nil
}

func targetPlace(accountID, id string) string {
	return placeOf("notifications", "target_json", accountID, id)
}

// tell puts what the policy's targets are to be told into the outbox. Stored with the
// decision, it is told whatever is killed afterwards, and nothing is told that was not
// stored. It returns what was left out, by type.
func (t *tx) tell(ctx context.Context, accountID, script string, decision *deploy.RollbackDecision, rampDone bool) (dropped []deploy.NotifyType, err error) {
	on := decision.News(rampDone)
	if on == "" {
		return nil, nil
	}
	targets, err := notifyTargets(ctx, t, t.keys, accountID, script)
	if err != nil || len(targets) == 0 {
		return nil, err
	}
	waiting, total, err := t.waitingNotifications(ctx, accountID)
	if err != nil {
		return nil, err
	}
	for _, target := range targets {
		if !target.Wants(on) {
			continue
		}
		for _, one := range target.Each() {
			n := deploy.Notification{
				AccountID: accountID, Script: script, On: on, Target: one, Decision: withoutSeries(*decision), State: deploy.NotificationWaiting,
			}
			key := targetKey(accountID, one)
			switch {
			case waiting[key] >= notificationsTargetMax:
				n.State, n.LastError = deploy.NotificationDropped, "too many messages for the target waited"
			case total >= notificationsWaitingMax:
				n.State, n.LastError = deploy.NotificationDropped, "too many messages of the account waited"
			}
			if n.State == deploy.NotificationDropped {
				dropped = append(dropped, one.Type)
			} else {
				waiting[key]++
				total++
			}
			if err := t.addNotification(ctx, n); err != nil {
				return nil, err
			}
		}
	}
	return dropped, t.trimNotifications(ctx, accountID, script)
}

// waitingNotifications counts what an account has waiting, by the key of the target.
func (t *tx) waitingNotifications(ctx context.Context, accountID string) (byTarget map[string]int, total int, err error) {
	byTarget = map[string]int{}
	err = each(ctx, t, func(row scanner) error {
		var key string
		var n int
		err := row.Scan(&key, &n)
		byTarget[key], total = n, total+n
		return err
	}, `SELECT target_key, COUNT(*) FROM notifications WHERE account_id = $1 AND state = $2 GROUP BY target_key`, accountID, deploy.NotificationWaiting)
	return byTarget, total, err
}

// notifyTargets are the targets of the policy that a script follows now.
func notifyTargets(ctx context.Context, q querier, keys *seal.Keys, accountID, script string) ([]deploy.NotifyTarget, error) {
	p, err := followed(ctx, q, keys, accountID, script)
	if err != nil || p == nil {
		return nil, err
	}
	return p.Policy.Notify, nil
}

// NotifyTargets returns whom the policy of a script tells, with their secrets.
func (s *Store) NotifyTargets(ctx context.Context, accountID, scriptName string) ([]deploy.NotifyTarget, error) {
	var targets []deploy.NotifyTarget
	err := s.read(ctx, "read the targets of a policy", func(t *sql.Tx) (err error) {
		if _, err := script(ctx, t, accountID, scriptName); err != nil {
			return err
		}
		targets, err = notifyTargets(ctx, t, s.keys, accountID, scriptName)
		return err
	})
	return targets, err
}

// withoutSeries leaves out the way to a statistic, which is long and can be read with
// the decision.
func withoutSeries(d deploy.RollbackDecision) deploy.RollbackDecision {
	d.Evidence = slices.Clone(d.Evidence)
	for i := range d.Evidence {
		d.Evidence[i].Series = nil
	}
	return d
}

// addNotification gives n an id and a time.
func (t *tx) addNotification(ctx context.Context, n deploy.Notification) error {
	if n.State != deploy.NotificationWaiting {
		n.Target = n.Target.Forgotten()
	}
	n.ID = uuid.NewString()
	target, err := sealJSON(t.keys, n.Target, targetPlace(n.AccountID, n.ID))
	if err != nil {
		return err
	}
	decision, err := toJSON(n.Decision)
	if err != nil {
		return err
	}
	_, err = t.ExecContext(ctx, `INSERT INTO notifications (id, account_id, script, kind, target_type, target_key, target_json, decision_json,
		created_on, ended_on, state, attempts, next_try, tried_on, leased_until, error)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, $9, NULL, 0, $12)`,
		n.ID, n.AccountID, n.Script, n.On, n.Target.Type, targetKey(n.AccountID, n.Target), target, decision,
		t.now.UnixMicro(), nullMicros(n.EndedOn), n.State, n.LastError)
	return err
}

// targetKey is the same for messages of an account that one slow place would hold up.
// Accounts that tell the same place do not wait for each other.
func targetKey(accountID string, target deploy.NotifyTarget) string {
	place := target.URL
	if target.Type == deploy.NotifyEmail {
		place = target.Name()
	}
	sum := sha256.Sum256([]byte(accountID + " " + string(target.Type) + " " + place)) // a URL may be a secret
	return hex.EncodeToString(sum[:])
}

// trimNotifications removes what is over: what is old, and of the script all but the
// newest.
func (t *tx) trimNotifications(ctx context.Context, accountID, script string) error {
	if _, err := t.ExecContext(ctx, `DELETE FROM notifications WHERE account_id = $1 AND state <> $2 AND created_on < $3`,
		accountID, deploy.NotificationWaiting, t.now.Add(-notificationHistory).UnixMicro()); err != nil {
		return err
	}
	_, err := t.ExecContext(ctx, `DELETE FROM notifications WHERE account_id = $1 AND script = $2 AND state <> $3 AND id NOT IN (
		SELECT id FROM notifications WHERE account_id = $1 AND script = $2 AND state <> $3 ORDER BY created_on DESC, id LIMIT $4)`,
		accountID, script, deploy.NotificationWaiting, notificationsKeptMax)
	return err
}

// endAlerts says that what alerts of a script told of is over: a person or the
// controller has moved on. One that may have arrived is followed by a message that
// ends it. One that still waits goes out as over, lest it came after its own end.
func (t *tx) endAlerts(ctx context.Context, accountID, script string) error {
	var ids []string
	err := each(ctx, t, func(row scanner) error {
		var id string
		err := row.Scan(&id)
		ids = append(ids, id)
		return err
	}, `SELECT id FROM notifications WHERE account_id = $1 AND script = $2 AND target_type = $3 AND ended_on IS NULL AND state IN ($4, $5)`,
		accountID, script, deploy.NotifyAlertmanager, deploy.NotificationWaiting, deploy.NotificationSent)
	if err != nil {
		return err
	}
	slices.Sort(ids) // as a claim locks rows: two that lock them in another order wait for each other
	var arrived []deploy.Notification
	for _, id := range ids {
		n, err := scanNotification(t.QueryRowContext(ctx, `UPDATE notifications SET ended_on = $1 WHERE id = $2 AND ended_on IS NULL
			AND state IN ($3, $4) RETURNING `+notificationColumns, t.now.UnixMicro(), id, deploy.NotificationWaiting, deploy.NotificationSent), t.keys)
		if errors.Is(err, sql.ErrNoRows) || errors.Is(err, errUnreadable) {
			continue // it was given up meanwhile, or never arrived and must not hold up what people do
		}
		if err != nil {
			return err
		}
		if n.Attempts > 0 {
			arrived = append(arrived, n)
		}
	}
	for _, n := range arrived {
		n.State, n.LastError = deploy.NotificationWaiting, ""
		if err := t.addNotification(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// Notifications returns the newest messages about a script, newest first, and their
// targets with secrets. Those about one of the same name that was deleted are not among them.
func (s *Store) Notifications(ctx context.Context, accountID, scriptName string) ([]deploy.Notification, error) {
	var list []deploy.Notification
	err := s.read(ctx, "list notifications", func(t *sql.Tx) error {
		about, err := script(ctx, t, accountID, scriptName)
		if err != nil {
			return err
		}
		return each(ctx, t, func(row scanner) error {
			n, err := scanNotification(row, s.keys)
			list = append(list, n)
			if errors.Is(err, errUnreadable) { // the rest of it says that it failed
				return nil
			}
			return err
		}, `SELECT `+notificationColumns+` FROM notifications WHERE account_id = $1 AND script = $2 AND created_on >= $3
			ORDER BY created_on DESC, id LIMIT $4`, accountID, scriptName, about.CreatedOn.UnixMicro(), notificationsKeptMax)
	})
	return list, err
}

// ClaimNotifications returns up to most messages that are due. They are the caller's
// for the time of the lease, in which no other process gets them, nor any other message
// of the account to the same target: to one that hangs there is one try at a time. Each counts as
// tried from here on, so that one which ends its process is not tried for ever. What
// an account has waiting delays nobody else's: accounts take turns. One that cannot be
// read any more is given up here, and comes back in the state failed to be reported.
// The end of an alert that stands again by now is dropped.
func (s *Store) ClaimNotifications(ctx context.Context, most int, lease time.Duration) ([]deploy.Notification, error) {
	ids, err := s.dueNotifications(ctx, most)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	slices.Sort(ids) // two processes lock rows in the same order
	var claimed []deploy.Notification
	err = s.write(ctx, "claim notifications", func(t *tx) error {
		for _, id := range ids {
			n, err := scanNotification(t.QueryRowContext(ctx, `UPDATE notifications
				SET attempts = attempts + 1, tried_on = $1, leased_until = $2
				WHERE id = $3 AND state = $4 AND next_try <= $1 AND leased_until <= $1 RETURNING `+notificationColumns,
				t.now.UnixMicro(), t.now.Add(lease).UnixMicro(), id, deploy.NotificationWaiting), t.keys)
			if errors.Is(err, sql.ErrNoRows) {
				continue // another process was faster
			}
			if errors.Is(err, errUnreadable) {
				n.State, n.LastError = deploy.NotificationFailed, errUnreadable.Error()
				err = t.settle(ctx, n)
			}
			if err != nil {
				return err
			}
			if stands, err := t.standsAgain(ctx, n); err != nil {
				return err
			} else if stands {
				n.State, n.LastError = deploy.NotificationDropped, "the same alert stands again"
				if err := t.settle(ctx, n); err != nil {
					return err
				}
				continue
			}
			claimed = append(claimed, n)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

// standsAgain reports whether n is over and a later alert, which the receiver cannot tell
// from it, is not: n would end that one. Alerts of a script are ended together, so one
// that is not over is later than any that is.
func (t *tx) standsAgain(ctx context.Context, n deploy.Notification) (stands bool, err error) {
	if n.Target.Type != deploy.NotifyAlertmanager || n.EndedOn.IsZero() {
		return false, nil
	}
	err = each(ctx, t, func(row scanner) error {
		other, err := scanNotification(row, t.keys)
		if errors.Is(err, errUnreadable) {
			return nil
		}
		stands = stands || other.Decision.VersionID == n.Decision.VersionID
		return err
	}, `SELECT `+notificationColumns+` FROM notifications WHERE account_id = $1 AND script = $2 AND kind = $3 AND target_key = $4
		AND ended_on IS NULL AND state IN ($5, $6)`,
		n.AccountID, n.Script, n.On, targetKey(n.AccountID, n.Target), deploy.NotificationWaiting, deploy.NotificationSent)
	return stands, err
}

// dueNotifications only reads: most looks find nothing, and must not queue up with the
// writers.
func (s *Store) dueNotifications(ctx context.Context, most int) ([]string, error) {
	var ids []string
	err := s.read(ctx, "look for notifications", func(t *sql.Tx) error {
		return each(ctx, t, func(row scanner) error {
			var id string
			err := row.Scan(&id)
			ids = append(ids, id)
			return err
		}, `WITH due AS (
				SELECT id, account_id, next_try, ROW_NUMBER() OVER (PARTITION BY target_key ORDER BY next_try, id) AS of_target
				FROM notifications n
				WHERE state = $1 AND next_try <= $2 AND NOT EXISTS (
					SELECT 1 FROM notifications f WHERE f.target_key = n.target_key AND f.leased_until > $2)
			), turns AS (
				SELECT id, next_try, ROW_NUMBER() OVER (PARTITION BY account_id ORDER BY next_try, id) + (
					SELECT COUNT(*) FROM notifications f WHERE f.account_id = due.account_id AND f.state = $1 AND f.leased_until > $2) AS turn
				FROM due WHERE of_target = 1
			)
			SELECT id FROM turns WHERE turn <= $3 ORDER BY turn, next_try, id LIMIT $4`,
			deploy.NotificationWaiting, s.now().UnixMicro(), notificationsAtOnce, most)
	})
	return ids, err
}

// SettleNotification stores what came of a claimed message: its State, its NextTry
// while it waits, and LastError. Nothing happens when the lease ran out and another
// process has claimed it since. The secrets of a target go with the need for them.
func (s *Store) SettleNotification(ctx context.Context, n deploy.Notification) error {
	return s.write(ctx, "settle notification "+n.ID, func(t *tx) error { return t.settle(ctx, n) })
}

func (t *tx) settle(ctx context.Context, n deploy.Notification) error {
	target := n.Target
	if n.State != deploy.NotificationWaiting && target.Type != deploy.NotifyAlertmanager { // which is told of the end, too
		target = target.Forgotten()
	}
	text, err := sealJSON(t.keys, target, targetPlace(n.AccountID, n.ID))
	if err != nil {
		return err
	}
	_, err = t.ExecContext(ctx, `UPDATE notifications SET state = $1, next_try = $2, error = $3, target_json = $4, leased_until = 0
		WHERE id = $5 AND attempts = $6 AND state = $7`,
		n.State, n.NextTry.UnixMicro(), said(n.LastError), text, n.ID, n.Attempts, deploy.NotificationWaiting)
	return err
}

// newDropped declares the counter of messages that the outbox had no room for.
func newDropped() (metric.Int64Counter, error) {
	return telemetry.Meter("tidegate/internal/store").Int64Counter("tidegate_rollback_notifications_dropped_total",
		metric.WithDescription("Messages about rollback decisions that were left out because too many of the account, or for the target, waited, by type of the target."))
}

func (s *Store) countDropped(ctx context.Context, types []deploy.NotifyType) {
	for _, kind := range types {
		s.dropped.Add(ctx, 1, metric.WithAttributes(attribute.String("type", string(kind))))
	}
}
