package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"

	"tidegate/internal/deploy"
)

// takeFromSources takes the transferred namespaces, which are on their way to another
// script, from those that have them: all is what each script has. A script that cannot
// give one away now is refused (deploy.CheckTransfer). The scripts are locked.
//
// A script whose class goes to another one keeps its deployment: no version without
// the class could be uploaded before, since it would not export what objects depend on.
// What serves goes on to serve; it no longer implements the class, in snapshots
// neither (leaveOutTransferred), and its binding leads to the same objects at their
// new home. Like any migration, this one cannot be gone back across: no version of that
// script with the class can be deployed again, the current one included.
func (t *tx) takeFromSources(ctx context.Context, accountID string, transferred []deploy.ScriptNamespace, all map[string][]deploy.DurableObjectNamespace) error {
	bySource := make(map[string][]deploy.ScriptNamespace)
	for _, n := range transferred {
		bySource[n.Script] = append(bySource[n.Script], n)
	}
	for _, source := range slices.Sorted(maps.Keys(bySource)) {
		if err := t.takeFrom(ctx, accountID, source, bySource[source], all[source]); err != nil {
			return fmt.Errorf("transfer from %s: %w", source, err)
		}
	}
	return nil
}

func (t *tx) takeFrom(ctx context.Context, accountID, source string, gone []deploy.ScriptNamespace, before []deploy.DurableObjectNamespace) error {
	var tag string
	var splits sql.NullString
	err := t.QueryRowContext(ctx, `SELECT s.migration_tag, d.splits_json FROM scripts s
		LEFT JOIN deployments d ON d.account_id = s.account_id AND d.script = s.name AND d.number = s.last_deployment
		WHERE s.account_id = $1 AND s.name = $2`, accountID, source).Scan(&tag, &splits)
	if err != nil {
		return err
	}
	var serving []deploy.Split
	if splits.Valid {
		if err := fromJSON(splits.String, &serving); err != nil {
			return err
		}
	}
	after := slices.Clone(before)
	for _, n := range gone {
		if err := deploy.CheckTransfer(n, serving); err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, `DELETE FROM durable_object_namespaces WHERE account_id = $1 AND id = $2`, accountID, n.ID); err != nil {
			return err
		}
		after = slices.DeleteFunc(after, func(left deploy.DurableObjectNamespace) bool { return left.ID == n.ID })
	}
	return t.audit(ctx, accountID, "script.migrate", source, migrated{tag, before}, migrated{tag, after})
}

// leaveOutTransferred takes from the versions that serve the namespaces that their
// script no longer has: those that were transferred to another script, whose versions
// implement them now, since the deployment was made.
func leaveOutTransferred(ctx context.Context, t *sql.Tx, which accountFilter, byKey map[scriptKey]*deploy.SnapshotScript) error {
	owners := make(map[string]scriptKey) // by the id of a namespace
	err := each(ctx, t, func(row scanner) error {
		var id string
		var key scriptKey
		err := row.Scan(&id, &key.accountID, &key.name)
		owners[id] = key
		return err
	}, `SELECT id, account_id, script FROM durable_object_namespaces WHERE account_id = COALESCE($1, account_id)`, which)
	if err != nil {
		return err
	}
	for key, script := range byKey {
		for i := range script.Versions {
			w := script.Versions[i].Worker
			serving := slices.ContainsFunc(script.Splits, func(s deploy.Split) bool { return s.VersionID == script.Versions[i].ID })
			if w == nil || !serving {
				continue
			}
			w.Objects = slices.DeleteFunc(w.Objects, func(n deploy.DurableObjectNamespace) bool { return owners[n.ID] != key })
			if len(w.Objects) == 0 {
				w.Objects = nil
			}
		}
	}
	return nil
}
