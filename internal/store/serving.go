package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tidegate/internal/deploy"
)

// Serving returns what each script of an account serves, in the order of their names.
// Scripts that were never deployed are left out; decisions are those since a time.
func (s *Store) Serving(ctx context.Context, accountID string, since time.Time) ([]deploy.Serving, error) {
	var list []deploy.Serving
	err := s.read(ctx, "list what scripts serve", func(t *sql.Tx) error {
		byScript := make(map[string]int)
		err := each(ctx, t, func(row scanner) error {
			one, err := scanServing(row)
			byScript[one.Script] = len(list)
			list = append(list, one)
			return err
		}, `SELECT `+deploymentColumns+`, s.name, r.ramp_json FROM scripts s
			JOIN deployments d ON d.account_id = s.account_id AND d.script = s.name AND d.number = s.last_deployment
			LEFT JOIN ramps r ON r.account_id = s.account_id AND r.script = s.name
			WHERE s.account_id = $1 ORDER BY s.name`, accountID)
		if err != nil {
			return err
		}
		if err := nameVersions(ctx, t, list); err != nil {
			return err
		}
		return each(ctx, t, func(row scanner) error {
			var name string
			d, err := scanDecision(row, &name)
			if i, ok := byScript[name]; ok && d.Action != "" {
				d.Evidence = nil
				list[i].Decision = &d
			}
			return err
		}, `SELECT decision_json, script FROM decisions WHERE account_id = $1 AND decided_on >= $2 ORDER BY decided_on`, accountID, since.UnixMicro())
	})
	return list, err
}

func scanServing(row scanner) (deploy.Serving, error) {
	var one deploy.Serving
	var ramp sql.NullString
	var err error
	if one.Deployment, err = scanDeployment(row, &one.Script, &ramp); err != nil || !ramp.Valid {
		return one, err
	}
	if err := fromJSON(ramp.String, &one.Ramp); err != nil {
		return one, fmt.Errorf("ramp of script %s: %w", one.Script, err)
	}
	*one.Ramp = one.Ramp.Beside(one.Deployment.ID)
	return one, nil
}

// nameVersions completes what is served with the names of its versions.
func nameVersions(ctx context.Context, t *sql.Tx, list []deploy.Serving) error {
	names := make(map[string]deploy.VersionName)
	for _, one := range list {
		for _, split := range one.Deployment.Versions {
			names[split.VersionID] = deploy.VersionName{}
		}
	}
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(names)), tiesAtOnce) {
		args, marks := make([]any, len(ids)), make([]string, len(ids))
		for i, id := range ids {
			args[i], marks[i] = id, fmt.Sprintf("$%d", i+1)
		}
		err := each(ctx, t, func(row scanner) error {
			var v deploy.VersionName
			var text string
			if err := row.Scan(&v.ID, &v.Number, &text); err != nil {
				return err
			}
			var annotations deploy.Annotations
			err := fromJSON(text, &annotations)
			v.Tag = annotations.Tag
			names[v.ID] = v
			return err
		}, `SELECT id, number, annotations_json FROM versions WHERE id IN (`+strings.Join(marks, ", ")+`)`, args...)
		if err != nil {
			return fmt.Errorf("name %d versions: %w", len(ids), err)
		}
	}
	for i := range list {
		for _, split := range list[i].Deployment.Versions {
			list[i].Versions = append(list[i].Versions, names[split.VersionID])
		}
	}
	return nil
}
