package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// lockModules keeps other writers away from the modules until the transaction
// ends. Whoever locks a script too does that first.
func (t *tx) lockModules(ctx context.Context) error {
	_, err := t.ExecContext(ctx, `UPDATE counters SET value = value + 1 WHERE name = 'modules'`)
	return err
}

// insertModules stores the contents that are new and notes what the version needs.
func (t *tx) insertModules(ctx context.Context, v deploy.Version, contents map[string][]byte) error {
	if v.Worker == nil {
		return nil
	}
	if err := t.lockModules(ctx); err != nil {
		return err
	}
	noted := make(map[string]bool)
	for _, module := range v.Worker.Modules {
		if noted[module.SHA256] {
			continue
		}
		noted[module.SHA256] = true
		if content, given := contents[module.SHA256]; given {
			// Not nil, which would be SQL's null.
			if _, err := t.ExecContext(ctx, `INSERT INTO modules (sha256, content) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
				module.SHA256, append([]byte{}, content...)); err != nil {
				return fmt.Errorf("store module %q: %w", module.Name, err)
			}
		}
		if _, err := t.ExecContext(ctx, `INSERT INTO version_modules (version_id, sha256) VALUES ($1, $2)`, v.ID, module.SHA256); err != nil {
			return fmt.Errorf("note module %q with the SHA-256 %s: %w", module.Name, module.SHA256, err)
		}
	}
	return nil
}

// dropUnusedModules removes the modules that no version needs.
func (t *tx) dropUnusedModules(ctx context.Context) error {
	if err := t.lockModules(ctx); err != nil {
		return err
	}
	_, err := t.ExecContext(ctx, `DELETE FROM modules WHERE NOT EXISTS
		(SELECT 1 FROM version_modules v WHERE v.sha256 = modules.sha256)`)
	return err
}

// Bundle returns what a router needs to run a Workers version, with the text of
// its secrets: it is for routers only. Where the account has no such version, or
// one that is an origin, the error is not_found.
func (s *Store) Bundle(ctx context.Context, accountID, versionID string) (deploy.Bundle, error) {
	b := deploy.Bundle{AccountID: accountID, VersionID: versionID}
	var created int64
	var annotations string
	var worker sql.NullString
	err := s.reader.QueryRowContext(ctx, `SELECT script, created_on, annotations_json, worker_json FROM versions
		WHERE account_id = $1 AND id = $2`, accountID, versionID).Scan(&b.Script, &created, &annotations, &worker)
	if errors.Is(err, sql.ErrNoRows) {
		return b, errs.New(errs.NotFound, 0, "version %q does not exist in this account", versionID)
	}
	if err != nil {
		return b, fmt.Errorf("read the bundle of version %s: %w", versionID, err)
	}
	if !worker.Valid {
		return b, errs.New(errs.NotFound, 0, "version %q is an origin: it has no code", versionID)
	}
	var said deploy.Annotations
	if err := errors.Join(fromJSON(annotations, &said), openJSON(s.keys, worker.String, &b.Worker, workerPlace(accountID, versionID))); err != nil {
		return b, fmt.Errorf("read the bundle of version %s: %w", versionID, err)
	}
	b.Tag, b.CreatedOn = said.Tag, fromMicros(created)
	return b, nil
}

// Module returns the content of a module by its SHA-256 in hex. One that no
// version of the account has is not_found, also when another account has it.
func (s *Store) Module(ctx context.Context, accountID, sha256 string) ([]byte, error) {
	var content []byte
	err := s.reader.QueryRowContext(ctx, `SELECT content FROM modules WHERE sha256 = $1 AND EXISTS
		(SELECT 1 FROM version_modules m JOIN versions v ON v.id = m.version_id WHERE m.sha256 = modules.sha256 AND v.account_id = $2)`,
		sha256, accountID).Scan(&content)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errs.New(errs.NotFound, 0, "no version of this account has a module with the SHA-256 %q", sha256)
	}
	if err != nil {
		return nil, fmt.Errorf("read module %s: %w", sha256, err)
	}
	if content == nil { // an empty one is null to the driver
		content = []byte{}
	}
	return content, nil
}
