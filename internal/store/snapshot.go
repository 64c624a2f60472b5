package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// Snapshot returns what the gateways of an account need. It answers at once if
// there is something newer than revision after; otherwise it waits for that, and
// after 30 s returns the current snapshot, whose revision then tells that nothing
// is new. When ctx ends first the error is that of ctx; while the database cannot be
// reached, and so nobody knows what is new, it is an unavailable one. Several callers may get the
// same snapshot: it must not be changed.
func (s *Store) Snapshot(ctx context.Context, accountID string, after int64) (*deploy.Snapshot, error) {
	return s.awaitSnapshot(ctx, oneAccount(accountID), after)
}

// SnapshotAll is Snapshot of every account.
func (s *Store) SnapshotAll(ctx context.Context, after int64) (*deploy.Snapshot, error) {
	return s.awaitSnapshot(ctx, everyAccount, after)
}

func (s *Store) awaitSnapshot(ctx context.Context, which accountFilter, after int64) (*deploy.Snapshot, error) {
	timeout := time.NewTimer(s.wait)
	defer timeout.Stop()
	for {
		revision, changed := s.watch.state()
		// Whoever asks may have another control plane to ask, and says to operators how
		// old its snapshot is: an answer from memory would tell it that there is no newer one.
		blinded, err := s.watch.sight()
		if err != nil {
			return nil, fmt.Errorf("wait for a snapshot: %w", errors.Join(errBlind, err))
		}
		if revision > after {
			break
		}
		select {
		case <-changed:
			continue
		case <-blinded:
			continue
		case <-timeout.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		break
	}
	return s.snapshot(ctx, which)
}

// errBlind is what is said without a database.
var errBlind = errs.New(errs.Unavailable, 0, "the control plane does not reach its database, so it does not know the newest deployments")

// snapshotCache holds the snapshots of one revision, so that many gateways that
// wake at once cost one read.
type snapshotCache struct {
	mu       sync.Mutex // held while a snapshot is read
	revision int64
	byWhich  map[accountFilter]*deploy.Snapshot
}

func (s *Store) snapshot(ctx context.Context, which accountFilter) (*deploy.Snapshot, error) {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	if revision, _ := s.watch.state(); s.cache.revision == revision {
		if snap := s.cache.byWhich[which]; snap != nil {
			return snap, nil
		}
	}
	var snap *deploy.Snapshot
	err := s.read(ctx, "read the snapshot", func(t *sql.Tx) (err error) {
		snap, err = readSnapshot(ctx, t, which)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.watch.advance(snap.Revision)
	if s.cache.revision != snap.Revision {
		s.cache.revision, s.cache.byWhich = snap.Revision, make(map[accountFilter]*deploy.Snapshot)
	}
	s.cache.byWhich[which] = snap
	return snap, nil
}

func readSnapshot(ctx context.Context, t *sql.Tx, which accountFilter) (*deploy.Snapshot, error) {
	snap := &deploy.Snapshot{Scripts: []deploy.SnapshotScript{}}
	err := t.QueryRowContext(ctx, `SELECT value FROM counters WHERE name = 'revision'`).Scan(&snap.Revision)
	if err != nil {
		return nil, err
	}
	if err := readSnapshotScripts(ctx, t, which, snap); err != nil {
		return nil, err
	}
	byKey := make(map[scriptKey]*deploy.SnapshotScript, len(snap.Scripts))
	for i := range snap.Scripts {
		byKey[scriptKey{snap.Scripts[i].AccountID, snap.Scripts[i].Name}] = &snap.Scripts[i]
	}
	routes, err := routesByScript(ctx, t, which)
	if err != nil {
		return nil, err
	}
	for key, script := range byKey {
		script.Routes = routes[key]
	}
	if err := addTriggers(ctx, t, which, byKey); err != nil {
		return nil, err
	}
	if err := addAffinity(ctx, t, which, byKey); err != nil {
		return nil, err
	}
	if err := addRedaction(ctx, t, which, byKey); err != nil {
		return nil, err
	}
	if err := addDeletedNamespaces(ctx, t, which, snap); err != nil {
		return nil, err
	}
	if err := addSnapshotVersions(ctx, t, which, byKey); err != nil {
		return nil, err
	}
	if err := addServingVersions(ctx, t, snap); err != nil {
		return nil, err
	}
	return snap, leaveOutTransferred(ctx, t, which, byKey)
}

// readSnapshotScripts reads the scripts, each with its current deployment.
func readSnapshotScripts(ctx context.Context, t *sql.Tx, which accountFilter, snap *deploy.Snapshot) error {
	return each(ctx, t, func(row scanner) error {
		script := deploy.SnapshotScript{Versions: []deploy.SnapshotVersion{}}
		var tags string
		var logpush bool
		var sampling deploy.Sampling
		var id, splits, codeUpdate sql.NullString
		if err := row.Scan(&script.AccountID, &script.Subdomain, &script.Name, &logpush, &sampling.HeadSamplingRate, &tags, &id, &splits, &codeUpdate); err != nil {
			return err
		}
		script.LogpushDisabled = !logpush
		if sampling != deploy.DefaultSampling() {
			script.HeadSamplingRate = sampling.HeadSamplingRate
		}
		if id.Valid {
			script.DeploymentID = id.String
			var update deploy.CodeUpdate
			if err := errors.Join(fromJSON(splits.String, &script.Splits), fromJSON(codeUpdate.String, &update)); err != nil {
				return err
			}
			script.ObjectsDelayMS = update.DelayMS()
		}
		err := fromJSON(tags, &script.Tags)
		snap.Scripts = append(snap.Scripts, script)
		return err
	}, `SELECT s.account_id, a.subdomain, s.name, s.logpush, s.head_sampling_rate, s.tags_json, d.id, d.splits_json, d.code_update_json FROM scripts s
		JOIN accounts a ON a.id = s.account_id
		LEFT JOIN deployments d ON d.account_id = s.account_id AND d.script = s.name AND d.number = s.last_deployment
		WHERE s.account_id = COALESCE($1, s.account_id) ORDER BY s.account_id, s.name`, which)
}

// snapshotVersions begins with the scripts, as watchedDecisions does, for the same reason.
const snapshotVersions = `SELECT ` + snapshotVersionColumns + `, v.account_id, v.script FROM scripts s
	CROSS JOIN versions v
	WHERE s.account_id = COALESCE($1, s.account_id) AND v.account_id = s.account_id AND v.script = s.name AND v.number > s.last_version - $2
	ORDER BY v.account_id, v.script, v.number DESC`

func addSnapshotVersions(ctx context.Context, t *sql.Tx, which accountFilter, byKey map[scriptKey]*deploy.SnapshotScript) error {
	return each(ctx, t, func(row scanner) error {
		var key scriptKey
		v, err := scanSnapshotVersion(row, &key.accountID, &key.name)
		if script := byKey[key]; script != nil {
			script.Versions = append(script.Versions, v)
		}
		return err
	}, snapshotVersions, which, deploy.DeployableVersions)
}

// addServingVersions adds the versions that serve although they are no longer
// among the deployable ones: a deployment stays as it was made.
func addServingVersions(ctx context.Context, t *sql.Tx, snap *deploy.Snapshot) error {
	for i := range snap.Scripts {
		script := &snap.Scripts[i]
		known := make(map[string]bool, len(script.Versions))
		for _, v := range script.Versions {
			known[v.ID] = true
		}
		for _, split := range script.Splits {
			if known[split.VersionID] {
				continue
			}
			v, err := scanSnapshotVersion(t.QueryRowContext(ctx, `SELECT `+snapshotVersionColumns+` FROM versions v WHERE v.id = $1`, split.VersionID))
			if err != nil {
				return err
			}
			script.Versions = append(script.Versions, v)
		}
	}
	return nil
}

// snapshotVersionColumns have neither code nor secrets.
const snapshotVersionColumns = `v.id, v.annotations_json, v.origin_json, v.exports_json, v.objects_json`

func scanSnapshotVersion(row scanner, also ...any) (deploy.SnapshotVersion, error) {
	var v deploy.SnapshotVersion
	var annotations string
	var origin, exports, objects sql.NullString
	if err := row.Scan(append([]any{&v.ID, &annotations, &origin, &exports, &objects}, also...)...); err != nil {
		return v, err
	}
	var said deploy.Annotations
	if err := errors.Join(fromJSON(annotations, &said), fromNullJSON(origin, &v.Origin)); err != nil {
		return v, err
	}
	v.Tag, v.Message, v.Alias = said.Tag, said.Message, said.Alias
	if exports.Valid {
		v.Worker = &deploy.SnapshotWorker{}
		if objects.Valid {
			err := fromJSON(objects.String, &v.Worker.Objects)
			if err != nil {
				return v, err
			}
		}
		return v, fromJSON(exports.String, &v.Worker.Exports)
	}
	return v, nil
}
