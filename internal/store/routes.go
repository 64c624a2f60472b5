package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"strings"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// MoveRoute replaces one route of the account, which may be none, by another, which
// may be none. The errors of SetRoutes hold; a route that is not there is not_found,
// and one above deploy.RoutesMax is invalid.
func (s *Store) MoveRoute(ctx context.Context, accountID string, from, to deploy.ScriptRoute) error {
	none := deploy.ScriptRoute{}
	return s.write(ctx, "move route", func(t *tx) error {
		if to != none {
			if err := t.checkRoute(ctx, accountID, to); err != nil {
				return err
			}
		}
		if from != none {
			n, err := changed(ctx, t, `DELETE FROM routes WHERE account_id = $1 AND script = $2 AND pattern = $3`, accountID, from.Script, from.Pattern)
			if err != nil {
				return err
			}
			if n == 0 {
				return errs.New(errs.NotFound, 0, "route %q of script %q does not exist", from.Pattern, from.Script)
			}
		}
		if to != none {
			if err := t.insertRoute(ctx, accountID, to.Script, to.Pattern); err != nil {
				return err
			}
			if list, err := routes(ctx, t, accountID, to.Script); err != nil {
				return err
			} else if len(list) > deploy.RoutesMax {
				return errs.New(errs.Invalid, 0, "script %q has %d routes, and more are not allowed: remove one first", to.Script, deploy.RoutesMax)
			}
		}
		if err := t.audit(ctx, accountID, "route.move", cmp.Or(to.Script, from.Script), from, to); err != nil {
			return err
		}
		return t.publish(ctx)
	})
}

// checkRoute keeps other writers of routes away, and refuses a route that the
// script may not have.
func (t *tx) checkRoute(ctx context.Context, accountID string, route deploy.ScriptRoute) error {
	if _, _, err := t.lockScript(ctx, accountID, route.Script); err != nil {
		return err
	}
	parsed, err := deploy.ParseRoute(route.Pattern)
	if err != nil {
		return err
	}
	return t.checkHosts(ctx, accountID, []deploy.Route{parsed})
}

// insertRoute is a conflict when the pattern belongs to another script already, be
// it as a route or as a custom domain.
func (t *tx) insertRoute(ctx context.Context, accountID, script, pattern string) error {
	if hostname, all := strings.CutSuffix(pattern, "/*"); all {
		var owner string
		err := t.QueryRowContext(ctx, `SELECT script FROM domains WHERE hostname = $1 AND script <> $2`, hostname, script).Scan(&owner)
		if err == nil {
			return errs.New(errs.Conflict, codeRouteTaken, "route %q is the custom domain of script %q: detach it there first", pattern, owner)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	n, err := changed(ctx, t, `INSERT INTO routes (pattern, account_id, script) VALUES ($1, $2, $3)
		ON CONFLICT DO NOTHING`, pattern, accountID, script)
	if err == nil && n == 0 {
		err = errs.New(errs.Conflict, codeRouteTaken, "route %q is taken by another script: remove it there first", pattern)
	}
	return err
}
