package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"tidegate/internal/deploy"
)

// DurableObjectNamespaces returns the namespaces of an account in the order of
// their scripts and classes.
func (s *Store) DurableObjectNamespaces(ctx context.Context, accountID string) ([]deploy.ScriptNamespace, error) {
	var list []deploy.ScriptNamespace
	err := s.read(ctx, "list namespaces of Durable Objects", func(t *sql.Tx) (err error) {
		list, err = scriptNamespaces(ctx, t, accountID)
		return err
	})
	return list, err
}

// scriptNamespaces is DurableObjectNamespaces in a transaction.
func scriptNamespaces(ctx context.Context, q querier, accountID string) ([]deploy.ScriptNamespace, error) {
	var list []deploy.ScriptNamespace
	err := each(ctx, q, func(row scanner) error {
		var n deploy.ScriptNamespace
		err := row.Scan(&n.ID, &n.Class, &n.SQLite, &n.Script)
		list = append(list, n)
		return err
	}, `SELECT id, class, use_sqlite, script FROM durable_object_namespaces WHERE account_id = $1 ORDER BY script, class`, accountID)
	return list, err
}

// namespacesByScript has every script of the account, also those without namespaces:
// nothing of another account can be reached from here.
func namespacesByScript(ctx context.Context, q querier, accountID string) (map[string][]deploy.DurableObjectNamespace, error) {
	byScript := make(map[string][]deploy.DurableObjectNamespace)
	err := each(ctx, q, func(row scanner) error {
		var name string
		err := row.Scan(&name)
		byScript[name] = nil
		return err
	}, `SELECT name FROM scripts WHERE account_id = $1`, accountID)
	if err != nil {
		return nil, err
	}
	list, err := scriptNamespaces(ctx, q, accountID)
	for _, n := range list {
		byScript[n.Script] = append(byScript[n.Script], n.DurableObjectNamespace)
	}
	return byScript, err
}

// namespaces of a script in the order of their classes.
func namespaces(ctx context.Context, q querier, accountID, script string) ([]deploy.DurableObjectNamespace, error) {
	var list []deploy.DurableObjectNamespace
	err := each(ctx, q, func(row scanner) error {
		var n deploy.DurableObjectNamespace
		err := row.Scan(&n.ID, &n.Class, &n.SQLite)
		list = append(list, n)
		return err
	}, `SELECT id, class, use_sqlite FROM durable_object_namespaces WHERE account_id = $1 AND script = $2`, accountID, script)
	// In Go's order, whatever the database's collation is: that of a version's namespaces.
	slices.SortFunc(list, func(a, b deploy.DurableObjectNamespace) int { return strings.Compare(a.Class, b.Class) })
	return list, err
}

// migrate applies the migrations of an upload, if any, and returns the version's
// worker, nil for an origin's, as one that implements what the script then has, and
// whose bindings lead to namespaces of the account. The script and those that classes
// are transferred from are locked.
func (t *tx) migrate(ctx context.Context, accountID, name string, m *deploy.Migrations, w *deploy.Worker) (*deploy.Worker, error) {
	before, err := namespaces(ctx, t, accountID, name)
	if err != nil {
		return nil, err
	}
	var tag string
	err = t.QueryRowContext(ctx, `SELECT migration_tag FROM scripts WHERE account_id = $1 AND name = $2`, accountID, name).Scan(&tag)
	if err != nil {
		return nil, err
	}
	after := before
	if m != nil {
		if after, err = t.applyMigrations(ctx, accountID, name, tag, m, before); err != nil {
			return nil, err
		}
		tag = cmp.Or(m.NewTag, tag)
	}
	if w == nil {
		return nil, nil
	}
	var others map[string][]deploy.DurableObjectNamespace
	if len(w.OtherScripts(name)) > 0 {
		if others, err = namespacesByScript(ctx, t, accountID); err != nil {
			return nil, err
		}
	}
	w, err = w.Implementing(name, before, after, others)
	if err == nil {
		w.MigrationTag = tag
	}
	return w, err
}

func (t *tx) applyMigrations(ctx context.Context, accountID, name, tag string, m *deploy.Migrations, before []deploy.DurableObjectNamespace) ([]deploy.DurableObjectNamespace, error) {
	if err := m.CheckTag(tag); err != nil {
		return nil, err
	}
	var others map[string][]deploy.DurableObjectNamespace
	if len(m.Sources()) > 0 {
		var err error
		if others, err = namespacesByScript(ctx, t, accountID); err != nil {
			return nil, err
		}
	}
	done, err := m.Apply(name, before, others, newHexID)
	if err != nil {
		return nil, err
	}
	if m.NewTag != "" {
		if _, err := t.ExecContext(ctx, `UPDATE scripts SET migration_tag = $1 WHERE account_id = $2 AND name = $3`, m.NewTag, accountID, name); err != nil {
			return nil, err
		}
	}
	if err := t.takeFromSources(ctx, accountID, done.Transferred, others); err != nil {
		return nil, err
	}
	if err := t.replaceNamespaces(ctx, accountID, name, done); err != nil {
		return nil, err
	}
	return done.Namespaces, t.audit(ctx, accountID, "script.migrate", name, migrated{tag, before}, migrated{cmp.Or(m.NewTag, tag), done.Namespaces})
}

// replaceNamespaces gives a script its namespaces after migrations, all at once,
// because two classes may have changed names with each other.
func (t *tx) replaceNamespaces(ctx context.Context, accountID, name string, done deploy.Migrated) error {
	if _, err := t.ExecContext(ctx, `DELETE FROM durable_object_namespaces WHERE account_id = $1 AND script = $2`, accountID, name); err != nil {
		return err
	}
	for _, n := range done.Namespaces {
		if _, err := t.ExecContext(ctx, `INSERT INTO durable_object_namespaces (id, account_id, script, class, use_sqlite) VALUES ($1, $2, $3, $4, $5)`,
			n.ID, accountID, name, n.Class, n.SQLite); err != nil {
			return fmt.Errorf("class %s: %w", n.Class, err)
		}
	}
	for _, id := range done.Deleted {
		if _, err := t.ExecContext(ctx, `INSERT INTO deleted_durable_object_namespaces (id, account_id, deleted_on) VALUES ($1, $2, $3)`,
			id, accountID, t.now.UnixMicro()); err != nil {
			return err
		}
	}
	return nil
}

// migrated is what migrations change, for the audit log.
type migrated struct {
	Tag        string                          `json:"migration_tag"`
	Namespaces []deploy.DurableObjectNamespace `json:"namespaces"`
}

// deleteNamespaces notes that the storage of a script that is about to be deleted
// may be removed.
func (t *tx) deleteNamespaces(ctx context.Context, accountID, script string) error {
	_, err := t.ExecContext(ctx, `INSERT INTO deleted_durable_object_namespaces (id, account_id, deleted_on)
		SELECT id, account_id, CAST($1 AS BIGINT) FROM durable_object_namespaces WHERE account_id = $2 AND script = $3`, t.now.UnixMicro(), accountID, script)
	return err
}

// checkObjects refuses splits that deploy.CheckDurableObjects refuses. The script is
// locked.
func (t *tx) checkObjects(ctx context.Context, accountID, script string, splits []deploy.Split) error {
	has, err := namespaces(ctx, t, accountID, script)
	if err != nil {
		return err
	}
	versions := make([]deploy.Version, len(splits))
	for i, split := range splits {
		versions[i], err = scanVersion(t.QueryRowContext(ctx, `SELECT `+versionColumns+` FROM versions WHERE account_id = $1 AND script = $2 AND id = $3`,
			accountID, script, split.VersionID), t.keys)
		if err != nil {
			return fmt.Errorf("version %s: %w", split.VersionID, err)
		}
	}
	return deploy.CheckDurableObjects(script, has, versions)
}

// addDeletedNamespaces adds the newest namespaces whose storage may be removed.
func addDeletedNamespaces(ctx context.Context, t *sql.Tx, which accountFilter, snap *deploy.Snapshot) error {
	return each(ctx, t, func(row scanner) error {
		var id string
		err := row.Scan(&id)
		snap.DeletedDurableObjects = append(snap.DeletedDurableObjects, id)
		return err
	}, `SELECT id FROM deleted_durable_object_namespaces WHERE account_id = COALESCE($1, account_id)
		ORDER BY deleted_on DESC, id LIMIT $2`, which, deploy.SnapshotDeletedMax)
}
