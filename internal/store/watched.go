package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	byScript map[scriptKey]*rememberedScript
}

// rememberedScript has the newest deployments of a script, none until they are read. Deployments
// are never changed, and a new one serves at once. So they are the same as long as the same one
// serves and as many are left: past ones can be deleted. The id tells a script from an earlier one
// of its name.
type rememberedScript struct {
	policy      rememberedPolicy
	serving     string
	count       int
	deployments []deploy.Deployment
}

// rememberedPolicy is what a text says at its place, which it is sealed for: whose, revision.
type rememberedPolicy struct {
	whose    string
	revision int64
	text     string
	policy   deploy.RollbackPolicy
}

// Watched returns every script that follows an enabled policy and has been deployed,
// and what the controller needs to judge it, as of one moment. Several callers may get the
// same deployments and policies: they must not be changed.
func (s *Store) Watched(ctx context.Context) ([]deploy.Watched, error) {
	s.watched.mu.Lock()
	defer s.watched.mu.Unlock()
	var list []deploy.Watched
	err := s.read(ctx, "list watched scripts", func(t *sql.Tx) (err error) {
		list, err = s.watchedLocked(ctx, t)
		return err
	})
	return list, err
}

func (s *Store) watchedLocked(ctx context.Context, q querier) ([]deploy.Watched, error) {
	var list []deploy.Watched
	var unread []*rememberedScript
	err := each(ctx, q, func(row scanner) error {
		var w deploy.Watched
		var p rememberedPolicy
		var serving string
		var count int
		var rampText sql.NullString
		var savedOn int64
		var ownOn sql.NullInt64 // when the script's own was last changed, or deleted
		err := row.Scan(&w.AccountID, &w.Script, &p.whose, &p.revision, &savedOn, &ownOn, &p.text, &rampText, &serving, &count)
		if err != nil {
			return err
		}
		key := scriptKey{w.AccountID, w.Script}
		known := s.watched.byScript[key]
		if known == nil {
			known = &rememberedScript{}
		}
		if was := known.policy; was.whose == p.whose && was.revision == p.revision && was.text == p.text {
			p = was
		} else if p.policy, err = openPolicy(s.keys, p.text, w.AccountID, p.whose, p.revision); err != nil {
			return fmt.Errorf("policy of script %s: %w", w.Script, err)
		}
		known.policy = p
		if known.serving != serving || known.count != count {
			known.serving, known.count, known.deployments = serving, count, nil
		}
		if known.deployments == nil {
			unread = append(unread, known)
		}
		s.watched.byScript[key] = known
		w.Policy, w.PolicyRevision, w.PolicySource = p.policy, p.revision, sourceOf(p.whose)
		w.PolicySince = time.UnixMicro(max(savedOn, ownOn.Int64)).UTC()
		if rampText.Valid {
			if err := fromJSON(rampText.String, &w.Ramp); err != nil {
				return fmt.Errorf("ramp of script %s: %w", w.Script, err)
			}
		}
		list = append(list, w)
		return nil
	}, watchedScripts, deploy.WatchedDeployments)
	if err != nil {
		return nil, err
	}
	byScript := make(map[scriptKey]*deploy.Watched, len(list))
	for i := range list {
		byScript[scriptKey{list[i].AccountID, list[i].Script}] = &list[i]
	}
	maps.DeleteFunc(s.watched.byScript, func(key scriptKey, _ *rememberedScript) bool { return byScript[key] == nil })
	if err := readNewestDeployments(ctx, q, unread); err != nil {
		return nil, err
	}
	for key, w := range byScript {
		w.Deployments = s.watched.byScript[key].deployments
	}
	return list, addDecisions(ctx, q, byScript)
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

// watchedAtOnce is how many scripts' deployments one query reads: a query for each would take as
// many round trips, one for all would leave nothing when time is up.
const watchedAtOnce = 200

// readNewestDeployments of scripts. Those of a query that fails stay unread.
func readNewestDeployments(ctx context.Context, q querier, unread []*rememberedScript) error {
	for scripts := range slices.Chunk(unread, watchedAtOnce) {
		args, marks := []any{deploy.WatchedDeployments}, make([]string, len(scripts))
		for i, script := range scripts {
			args, marks[i] = append(args, script.serving), fmt.Sprintf("$%d", i+2)
		}
		newest := make(map[string][]deploy.Deployment, len(scripts)) // by the one that serves
		err := each(ctx, q, func(row scanner) error {
			var serving string
			d, err := scanDeployment(row, &serving)
			newest[serving] = append(newest[serving], d)
			return err
		}, fmt.Sprintf(newestDeployments, strings.Join(marks, ", ")), args...)
		if err != nil {
			return fmt.Errorf("deployments of %d scripts: %w", len(scripts), err)
		}
		for _, script := range scripts {
			script.deployments = newest[script.serving]
		}
	}
	return nil
}

const newestDeployments = `SELECT ` + deploymentColumns + `, n.id FROM deployments n
	JOIN deployments d ON d.account_id = n.account_id AND d.script = n.script AND d.number > n.number - $1
	WHERE n.id IN (%s) ORDER BY d.number DESC`

// watchedDecisions begins with the scripts: SQLite takes the tables of a CROSS JOIN in their order,
// and would begin with all decisions that there ever were.
const watchedDecisions = `SELECT x.decision_json, x.account_id, x.script FROM scripts s
	JOIN deployments d ON d.account_id = s.account_id AND d.script = s.name AND d.number = s.last_deployment
	CROSS JOIN decisions x
	WHERE x.account_id = s.account_id AND x.script = s.name AND x.from_deployment = d.id
	ORDER BY x.decided_on DESC, x.id`

// addDecisions finds the decisions about each current deployment.
func addDecisions(ctx context.Context, q querier, watched map[scriptKey]*deploy.Watched) error {
	return each(ctx, q, func(row scanner) error {
		var key scriptKey
		d, err := scanDecision(row, &key.accountID, &key.name)
		if w := watched[key]; w != nil {
			w.Decisions = append(w.Decisions, d)
		}
		return err
	}, watchedDecisions)
}
