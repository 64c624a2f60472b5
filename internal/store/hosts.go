package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// codeSubdomainTaken is Cloudflare's.
const codeSubdomainTaken = 10031

// Hosts returns which own hosts of a script serve, or a not_found error.
func (s *Store) Hosts(ctx context.Context, accountID, name string) (deploy.Hosts, error) {
	found, err := hosts(ctx, s.reader, accountID, name)
	if err != nil {
		err = fmt.Errorf("read hosts: %w", err)
	}
	return found, err
}

func hosts(ctx context.Context, q querier, accountID, name string) (deploy.Hosts, error) {
	var found deploy.Hosts
	err := q.QueryRowContext(ctx, `SELECT host_disabled, previews_disabled FROM scripts WHERE account_id = $1 AND name = $2`,
		accountID, name).Scan(&found.Disabled, &found.PreviewsDisabled)
	if errors.Is(err, sql.ErrNoRows) {
		err = noScript(name)
	}
	return found, err
}

// UpdateHosts changes the members of u that are not nil, and returns the result.
func (s *Store) UpdateHosts(ctx context.Context, accountID, name string, u deploy.HostsUpdate) (deploy.Hosts, error) {
	var after deploy.Hosts
	err := s.write(ctx, "update hosts", func(t *tx) error {
		if _, _, err := t.lockScript(ctx, accountID, name); err != nil {
			return err
		}
		before, err := hosts(ctx, t, accountID, name)
		if err != nil {
			return err
		}
		after = before
		if u.Enabled != nil {
			after.Disabled = !*u.Enabled
		}
		if u.PreviewsEnabled != nil {
			after.PreviewsDisabled = !*u.PreviewsEnabled
		}
		if after == before {
			return nil // wrangler says it at every deployment
		}
		if _, err := t.ExecContext(ctx, `UPDATE scripts SET host_disabled = $1, previews_disabled = $2 WHERE account_id = $3 AND name = $4`,
			after.Disabled, after.PreviewsDisabled, accountID, name); err != nil {
			return err
		}
		if err := t.audit(ctx, accountID, "script.hosts", name, before, after); err != nil {
			return err
		}
		return t.publish(ctx)
	})
	return after, err
}

// SubdomainOwner returns the account that has a subdomain, or a not_found error.
func (s *Store) SubdomainOwner(ctx context.Context, subdomain string) (control.Account, error) {
	found, err := subdomainOwner(ctx, s.reader, subdomain)
	if err != nil {
		err = fmt.Errorf("read the owner of a subdomain: %w", err)
	}
	return found, err
}

func subdomainOwner(ctx context.Context, q querier, subdomain string) (control.Account, error) {
	found, err := scanAccount(q.QueryRowContext(ctx, `SELECT `+accountColumns+` FROM accounts WHERE subdomain = $1`, subdomain))
	if errors.Is(err, sql.ErrNoRows) {
		err = errs.New(errs.NotFound, 0, "no account has the subdomain %q", subdomain)
	}
	return found, err
}

// SetSubdomain gives an account another subdomain, under which its scripts are
// reached from now on. One that another account has is a conflict, and so are routes and
// domains that would then be on names of another account: see deploy.Route.CheckClaim.
func (s *Store) SetSubdomain(ctx context.Context, accountID, subdomain string) error {
	return s.write(ctx, "set subdomain", func(t *tx) error {
		before, err := account(ctx, t, accountID)
		if err != nil || before.Subdomain == subdomain {
			return err
		}
		switch _, err := subdomainOwner(ctx, t, subdomain); {
		case err == nil:
			return subdomainTaken(subdomain)
		case errs.KindOf(err) != errs.NotFound:
			return err
		}
		if err := t.checkSubdomain(ctx, before, subdomain); err != nil {
			return err
		}
		_, err = t.ExecContext(ctx, `UPDATE accounts SET subdomain = $1 WHERE id = $2`, subdomain, accountID)
		if state, ok := errors.AsType[sqlState](err); ok && state.SQLState() == stateUnique {
			return subdomainTaken(subdomain) // by an account that took it meanwhile
		}
		if err != nil {
			return err
		}
		if err := t.audit(ctx, accountID, "account.subdomain", accountID, before.Subdomain, subdomain); err != nil {
			return err
		}
		return t.publish(ctx)
	})
}

func subdomainTaken(subdomain string) error {
	return errs.New(errs.Conflict, codeSubdomainTaken, "subdomain %q is taken: choose another one", subdomain).At("/subdomain")
}

// sqlState is what PostgreSQL's errors tell. SQLite has one writer at a time.
type sqlState interface {
	error
	SQLState() string
}

const stateUnique = "23505" // unique_violation

// checkSubdomain locks hosts. It refuses a subdomain below which another account has a route,
// and to leave one behind, for others to take, below which the account has some itself.
func (t *tx) checkSubdomain(ctx context.Context, of control.Account, subdomain string) error {
	if t.domain == "" { // and nobody but operators has routes
		return nil
	}
	if err := t.lockHosts(ctx); err != nil {
		return err
	}
	before, after := of.Subdomain+"."+t.domain, subdomain+"."+t.domain
	return each(ctx, t, func(row scanner) error {
		var owner, pattern string
		if err := row.Scan(&owner, &pattern); err != nil {
			return err
		}
		r, err := deploy.ParseRoute(pattern)
		if err != nil {
			return err
		}
		switch {
		case owner == of.ID && r.Below(before):
			return errs.New(errs.Conflict, codeRouteTaken, "subdomain %q cannot be left, for others to take it, while the route or custom domain %q is below it: remove that first", of.Subdomain, pattern).At("/subdomain")
		case owner != of.ID && r.Below(after):
			return subdomainTaken(subdomain)
		}
		return nil
	}, `SELECT account_id, pattern FROM routes UNION ALL SELECT account_id, hostname || '/*' FROM domains`)
}
