package store

import (
	"context"
	"database/sql"
	"slices"

	"tidegate/internal/deploy"
)

// addTriggers adds what reaches a script besides its routes, and whether somebody
// watches it.
func addTriggers(ctx context.Context, t *sql.Tx, which accountFilter, byKey map[scriptKey]*deploy.SnapshotScript) error {
	if err := addHosts(ctx, t, which, byKey); err != nil {
		return err
	}
	if err := addTriggerRows(ctx, t, which, byKey, func(script *deploy.SnapshotScript, hostname string) {
		pattern := deploy.Domain{Hostname: hostname}.Route()
		if !slices.Contains(script.Routes, pattern) {
			script.Routes = append(script.Routes, pattern)
		}
	}, `SELECT account_id, script, hostname FROM domains WHERE account_id = COALESCE($1, account_id) ORDER BY hostname`); err != nil {
		return err
	}
	if err := addTriggerRows(ctx, t, which, byKey, func(script *deploy.SnapshotScript, cron string) {
		script.Crons = append(script.Crons, cron)
	}, `SELECT account_id, script, cron FROM schedules WHERE account_id = COALESCE($1, account_id) ORDER BY created_on, cron`); err != nil {
		return err
	}
	return addTriggerRows(ctx, t, which, byKey, func(script *deploy.SnapshotScript, _ string) {
		script.Tailed = true
	}, `SELECT account_id, script, id FROM tails WHERE account_id = COALESCE($1, account_id)`)
}

// addTriggerRows hands each row, of an account, a script and a value, to add.
func addTriggerRows(ctx context.Context, t *sql.Tx, which accountFilter, byKey map[scriptKey]*deploy.SnapshotScript, add func(*deploy.SnapshotScript, string), query string) error {
	return each(ctx, t, func(row scanner) error {
		var key scriptKey
		var value string
		err := row.Scan(&key.accountID, &key.name, &value)
		if script := byKey[key]; script != nil {
			add(script, value)
		}
		return err
	}, query, which)
}

func addHosts(ctx context.Context, t *sql.Tx, which accountFilter, byKey map[scriptKey]*deploy.SnapshotScript) error {
	return each(ctx, t, func(row scanner) error {
		var key scriptKey
		var hosts deploy.Hosts
		err := row.Scan(&key.accountID, &key.name, &hosts.Disabled, &hosts.PreviewsDisabled)
		if script := byKey[key]; script != nil {
			script.HostDisabled, script.PreviewsDisabled = hosts.Disabled, hosts.PreviewsDisabled
		}
		return err
	}, `SELECT account_id, name, host_disabled, previews_disabled FROM scripts
		WHERE account_id = COALESCE($1, account_id) AND (host_disabled OR previews_disabled)`, which)
}
