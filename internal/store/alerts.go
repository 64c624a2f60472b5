package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
)

// AlertHook returns where an account is told of failures, or a not_found error.
func (s *Store) AlertHook(ctx context.Context, accountID string) (h logjob.AlertHook, err error) {
	err = s.reader.QueryRowContext(ctx, `SELECT url, secret, policy_id FROM logpush_alerts WHERE account_id = $1`, accountID).Scan(&h.URL, &h.Secret, &h.PolicyID)
	if errors.Is(err, sql.ErrNoRows) {
		return h, errs.New(errs.NotFound, 0, "the account has no alerts of Logpush: set them with PUT")
	}
	if err == nil {
		h.URL, err = s.keys.Open(h.URL, placeOf("logpush_alerts", "url", accountID))
	}
	if err == nil {
		h.Secret, err = s.keys.Open(h.Secret, placeOf("logpush_alerts", "secret", accountID))
	}
	if err != nil {
		return logjob.AlertHook{}, fmt.Errorf("read the alerts of an account: %w", err)
	}
	return h, nil
}

// alertState is a hook for the audit log. The path and the rest of its URL may be a secret.
type alertState struct {
	Address string `json:"address"` // scheme, host and port; empty if nobody has the key for it
	Signed  bool   `json:"signed"`  // there is a secret
}

// alertsBefore returns the hook that is about to change, nil for none, and its policy. One that
// cannot be opened any more is changed all the same: that is how somebody gets a new one.
func (t *tx) alertsBefore(ctx context.Context, accountID string) (state any, policy string, err error) {
	var sealed, secret string
	err = t.QueryRowContext(ctx, `SELECT url, secret, policy_id FROM logpush_alerts WHERE account_id = $1`, accountID).Scan(&sealed, &secret, &policy)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, "", nil
	}
	h := logjob.AlertHook{Secret: secret}
	if where, err := t.keys.Open(sealed, placeOf("logpush_alerts", "url", accountID)); err == nil {
		h.URL = where
	}
	return stateOfAlerts(h), policy, err
}

func stateOfAlerts(h logjob.AlertHook) alertState {
	state := alertState{Signed: h.Secret != ""}
	if u, err := url.Parse(h.URL); err == nil && u.Host != "" {
		state.Address = u.Scheme + "://" + u.Host
	}
	return state
}

// SaveAlertHook replaces where an account is told of failures. A policy id is given
// at the first time, and stays.
func (s *Store) SaveAlertHook(ctx context.Context, accountID string, h logjob.AlertHook) (logjob.AlertHook, error) {
	err := s.write(ctx, "save the alerts of an account", func(t *tx) error {
		before, _, err := t.alertsBefore(ctx, accountID)
		if err != nil {
			return err
		}
		where, err := t.keys.Seal(h.URL, placeOf("logpush_alerts", "url", accountID))
		if err != nil {
			return err
		}
		secret := ""
		if h.Secret != "" {
			if secret, err = t.keys.Seal(h.Secret, placeOf("logpush_alerts", "secret", accountID)); err != nil {
				return err
			}
		}
		if err := t.QueryRowContext(ctx, `INSERT INTO logpush_alerts (account_id, url, secret, policy_id) VALUES ($1, $2, $3, $4)
			ON CONFLICT (account_id) DO UPDATE SET url = excluded.url, secret = excluded.secret RETURNING policy_id`,
			accountID, where, secret, newHexID()).Scan(&h.PolicyID); err != nil {
			return err
		}
		return t.audit(ctx, accountID, "logpush_alerts.save", h.PolicyID, before, stateOfAlerts(h))
	})
	return h, err
}

// DeleteAlertHook ends an account's alerts, or is a not_found error.
func (s *Store) DeleteAlertHook(ctx context.Context, accountID string) error {
	return s.write(ctx, "delete the alerts of an account", func(t *tx) error {
		before, policy, err := t.alertsBefore(ctx, accountID)
		if err != nil {
			return err
		}
		if before == nil {
			return errs.New(errs.NotFound, 0, "the account has no alerts of Logpush")
		}
		if _, err := t.ExecContext(ctx, `DELETE FROM logpush_alerts WHERE account_id = $1`, accountID); err != nil {
			return err
		}
		return t.audit(ctx, accountID, "logpush_alerts.delete", policy, before, nil)
	})
}

// ClaimAlert reports whether an alert of a job and type may be sent now. Of several
// processes that ask, one gets it.
func (s *Store) ClaimAlert(ctx context.Context, jobID int64, kind string, every time.Duration) (bool, error) {
	now := s.now()
	n, err := changed(ctx, s.writer, `INSERT INTO logpush_alerts_sent (job_id, alert_type, sent_on)
		SELECT id, $2, $3 FROM jobs WHERE id = $1
		ON CONFLICT (job_id, alert_type) DO UPDATE SET sent_on = excluded.sent_on WHERE logpush_alerts_sent.sent_on <= $4`,
		jobID, kind, now.UnixMicro(), now.Add(-every).UnixMicro())
	if err != nil {
		return false, fmt.Errorf("claim an alert of job %d: %w", jobID, err)
	}
	return n == 1, nil
}

// ReleaseAlert takes back a claim whose alert could not be sent.
func (s *Store) ReleaseAlert(ctx context.Context, jobID int64, kind string) error {
	if _, err := s.writer.ExecContext(ctx, `DELETE FROM logpush_alerts_sent WHERE job_id = $1 AND alert_type = $2`, jobID, kind); err != nil {
		return fmt.Errorf("release an alert of job %d: %w", jobID, err)
	}
	return nil
}

// RecoveryDue reports whether an alert of one type was sent and none of the other since, and
// whether the last report of a partition of the job says that it fails.
func (s *Store) RecoveryDue(ctx context.Context, jobID int64, failing, recovered string) (due, fails bool, err error) {
	err = s.reader.QueryRowContext(ctx, `SELECT
		EXISTS (SELECT 1 FROM logpush_alerts_sent f WHERE f.job_id = $1 AND f.alert_type = $2 AND NOT EXISTS (
			SELECT 1 FROM logpush_alerts_sent r WHERE r.job_id = f.job_id AND r.alert_type = $3 AND r.sent_on >= f.sent_on)),
		EXISTS (SELECT 1 FROM logpush_partitions WHERE job_id = $1 AND message <> '')`,
		jobID, failing, recovered).Scan(&due, &fails)
	if err != nil {
		return false, false, fmt.Errorf("find what alerts told of job %d: %w", jobID, err)
	}
	return due, fails, nil
}
