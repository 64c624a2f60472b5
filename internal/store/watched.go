package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"tidegate/internal/deploy"
)

// watchedCache keeps what Watched has read of each script, for it is asked twice a second and
// little changes. Nothing has to be told of a change: each call reads what tells whether an entry
// still holds, in the same picture of the database as the rest. What was read before a call ran
// out of time is kept too, so that the next one gets further.
type watchedCache struct {
	mu       sync.Mutex // held while scripts are read
	byScript map[scriptKey]rememberedScript
}

type rememberedScript struct {
	policy      rememberedPolicy
	deployments rememberedDeployments
}

// rememberedPolicy is what a text says at its place, which it is sealed for: whose, revision.
type rememberedPolicy struct {
	whose    string
	revision int64
	text     string
	policy   deploy.RollbackPolicy
}

// rememberedDeployments are the newest of a script. Deployments are never changed, and a new one
// serves at once. So they are the same as long as the same one serves and as many are left: past
// ones can be deleted. The id tells a script from an earlier one of its name.
type rememberedDeployments struct {
	serving string
	count   int
	list    []deploy.Deployment
}

// Watched returns every script that follows an enabled policy and has been deployed,
// and what the controller needs to judge it, as of one moment. Several callers may get the
// same deployments and policies: they must not be changed.
func (s *Store) Watched(ctx context.Context) ([]deploy.Watched, error) {
	s.watched.mu.Lock()
	defer s.watched.mu.Unlock()
	var list []deploy.Watched
	err := s.read(ctx, "list watched scripts", func(t *sql.Tx) error {
		known := make(map[scriptKey]rememberedScript, len(s.watched.byScript))
		var facts []rememberedDeployments // of the database, beside list
		err := each(ctx, t, func(row scanner) error {
			var w deploy.Watched
			var p rememberedPolicy
			var d rememberedDeployments
			var rampText sql.NullString
			var savedOn int64
			var ownOn sql.NullInt64 // when the script's own was last changed, or deleted
			err := row.Scan(&w.AccountID, &w.Script, &p.whose, &p.revision, &savedOn, &ownOn, &p.text, &rampText, &d.serving, &d.count)
			if err != nil {
				return err
			}
			key := scriptKey{w.AccountID, w.Script}
			before := s.watched.byScript[key]
			if q := before.policy; q.whose == p.whose && q.revision == p.revision && q.text == p.text {
				p = q
			} else if p.policy, err = openPolicy(s.keys, p.text, w.AccountID, p.whose, p.revision); err != nil {
				return fmt.Errorf("policy of script %s: %w", w.Script, err)
			}
			known[key] = rememberedScript{p, before.deployments}
			w.Policy, w.PolicyRevision, w.PolicySource = p.policy, p.revision, sourceOf(p.whose)
			w.PolicySince = time.UnixMicro(max(savedOn, ownOn.Int64)).UTC()
			if rampText.Valid {
				if err := fromJSON(rampText.String, &w.Ramp); err != nil {
					return fmt.Errorf("ramp of script %s: %w", w.Script, err)
				}
			}
			list, facts = append(list, w), append(facts, d)
			return nil
		}, watchedScripts, deploy.WatchedDeployments)
		if err != nil {
			return err
		}
		s.watched.byScript = known // without those that are watched no more
		byScript := make(map[scriptKey]*deploy.Watched, len(list))
		for i := range list {
			w := &list[i]
			key := scriptKey{w.AccountID, w.Script}
			byScript[key] = w
			if w.Deployments, err = s.watchedDeployments(ctx, t, key, facts[i]); err != nil {
				return err
			}
		}
		return addDecisions(ctx, t, byScript)
	})
	return list, err
}

// watchedScripts says of each what its deployments are known by.
const watchedScripts = `SELECT s.account_id, s.name, p.script, p.revision, v.created_on,
	(SELECT o.created_on FROM policy_revisions o WHERE o.account_id = s.account_id AND o.script = s.name ORDER BY o.revision DESC LIMIT 1),
	v.policy_json, r.ramp_json, d.id,
	(SELECT COUNT(*) FROM deployments c WHERE c.account_id = s.account_id AND c.script = s.name AND c.number > s.last_deployment - $1)` + fromFollowed + `
	JOIN policy_revisions v ON v.account_id = p.account_id AND v.script = p.script AND v.revision = p.revision
	JOIN deployments d ON d.account_id = s.account_id AND d.script = s.name AND d.number = s.last_deployment
	LEFT JOIN ramps r ON r.account_id = s.account_id AND r.script = s.name
	ORDER BY s.account_id, s.name`

// watchedDeployments returns the newest deployments of a script, which are read only if those that
// are remembered are others.
func (s *Store) watchedDeployments(ctx context.Context, t *sql.Tx, key scriptKey, now rememberedDeployments) ([]deploy.Deployment, error) {
	remembered := s.watched.byScript[key]
	if d := remembered.deployments; d.serving == now.serving && d.count == now.count {
		return d.list, nil
	}
	err := each(ctx, t, func(row scanner) error {
		d, err := scanDeployment(row)
		now.list = append(now.list, d)
		return err
	}, newestDeployments, key.accountID, key.name, deploy.WatchedDeployments)
	if err != nil {
		return nil, fmt.Errorf("deployments of script %s: %w", key.name, err)
	}
	remembered.deployments = now
	s.watched.byScript[key] = remembered
	return now.list, nil
}

const newestDeployments = `SELECT ` + deploymentColumns + ` FROM scripts s
	JOIN deployments d ON d.account_id = s.account_id AND d.script = s.name AND d.number > s.last_deployment - $3
	WHERE s.account_id = $1 AND s.name = $2 ORDER BY d.number DESC`

// watchedDecisions begins with the scripts: SQLite takes the tables of a CROSS JOIN in their order,
// and would begin with all decisions that there ever were.
const watchedDecisions = `SELECT x.decision_json, x.account_id, x.script FROM scripts s
	JOIN deployments d ON d.account_id = s.account_id AND d.script = s.name AND d.number = s.last_deployment
	CROSS JOIN decisions x
	WHERE x.account_id = s.account_id AND x.script = s.name AND x.from_deployment = d.id
	ORDER BY x.decided_on DESC, x.id`

// addDecisions finds the decisions about each current deployment.
func addDecisions(ctx context.Context, t *sql.Tx, watched map[scriptKey]*deploy.Watched) error {
	return each(ctx, t, func(row scanner) error {
		var key scriptKey
		d, err := scanDecision(row, &key.accountID, &key.name)
		if w := watched[key]; w != nil {
			w.Decisions = append(w.Decisions, d)
		}
		return err
	}, watchedDecisions)
}
