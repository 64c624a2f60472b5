package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

const domainColumns = `id, account_id, hostname, script`

func scanDomain(row scanner) (deploy.Domain, error) {
	var d deploy.Domain
	err := row.Scan(&d.ID, &d.AccountID, &d.Hostname, &d.Script)
	return d, err
}

// Domains returns the custom domains of an account in the order of their names.
func (s *Store) Domains(ctx context.Context, accountID string) ([]deploy.Domain, error) {
	list, err := domains(ctx, s.reader, accountID)
	if err != nil {
		err = fmt.Errorf("list domains: %w", err)
	}
	return list, err
}

func domains(ctx context.Context, q querier, accountID string) ([]deploy.Domain, error) {
	var list []deploy.Domain
	err := each(ctx, q, func(row scanner) error {
		d, err := scanDomain(row)
		list = append(list, d)
		return err
	}, `SELECT `+domainColumns+` FROM domains WHERE account_id = $1 ORDER BY hostname`, accountID)
	return list, err
}

// SetDomains replaces the custom domains of a script with different host names, in
// lower case. One that another script has is a conflict, unless takeOver moves it
// here; so is one whose requests a route already gives to another script, and one
// on a host that belongs to another account.
func (s *Store) SetDomains(ctx context.Context, accountID, name string, hostnames []string, takeOver bool) error {
	return s.write(ctx, "set domains", func(t *tx) error {
		all, err := t.lockDomains(ctx, accountID, name, hostnames)
		if err != nil {
			return err
		}
		var was []string
		for _, d := range all {
			if d.Script != name {
				continue
			}
			was = append(was, d.Hostname)
			if !slices.Contains(hostnames, d.Hostname) {
				if _, err := t.ExecContext(ctx, `DELETE FROM domains WHERE id = $1`, d.ID); err != nil {
					return err
				}
			}
		}
		for _, hostname := range hostnames {
			if err := t.attachDomain(ctx, accountID, name, hostname, takeOver); err != nil {
				return err
			}
		}
		if err := t.audit(ctx, accountID, "script.domains", name, was, hostnames); err != nil {
			return err
		}
		return t.publish(ctx)
	})
}

// AttachDomain gives one host name, in lower case, to a script, and takes it from
// the one that has it. Its refusals are those of SetDomains; one above
// deploy.RoutesMax is invalid.
func (s *Store) AttachDomain(ctx context.Context, accountID, name, hostname string) (deploy.Domain, error) {
	var d deploy.Domain
	err := s.write(ctx, "attach domain", func(t *tx) error {
		list, err := t.lockDomains(ctx, accountID, name, []string{hostname})
		if err != nil {
			return err
		}
		var before any // whose it was
		if i := slices.IndexFunc(list, func(d deploy.Domain) bool { return d.Hostname == hostname }); i >= 0 {
			before = list[i]
		}
		if err := t.attachDomain(ctx, accountID, name, hostname, true); err != nil {
			return err
		}
		var attached int
		err = t.QueryRowContext(ctx, `SELECT COUNT(*) FROM domains WHERE account_id = $1 AND script = $2`, accountID, name).Scan(&attached)
		if err != nil {
			return err
		}
		if attached > deploy.RoutesMax {
			return errs.New(errs.Invalid, 0, "script %q has %d domains, and more are not allowed: detach one first", name, deploy.RoutesMax)
		}
		if d, err = scanDomain(t.QueryRowContext(ctx, `SELECT `+domainColumns+` FROM domains WHERE hostname = $1`, hostname)); err != nil {
			return err
		}
		if err := t.audit(ctx, accountID, "domain.attach", hostname, before, d); err != nil {
			return err
		}
		return t.publish(ctx)
	})
	return d, err
}

// lockDomains keeps other writers of routes and domains away until the transaction
// ends, refuses what is not this script's to have, and returns the account's domains.
func (t *tx) lockDomains(ctx context.Context, accountID, name string, hostnames []string) ([]deploy.Domain, error) {
	if _, _, err := t.lockScript(ctx, accountID, name); err != nil {
		return nil, err
	}
	wanted := make([]deploy.Route, len(hostnames))
	for i, hostname := range hostnames {
		var err error
		if wanted[i], err = deploy.ParseRoute(deploy.Domain{Hostname: hostname}.Route()); err != nil {
			return nil, err
		}
	}
	if err := t.checkHosts(ctx, accountID, wanted); err != nil {
		return nil, err
	}
	for _, hostname := range hostnames {
		pattern := deploy.Domain{Hostname: hostname}.Route()
		var owner string
		err := t.QueryRowContext(ctx, `SELECT script FROM routes WHERE pattern = $1 AND script <> $2`, pattern, name).Scan(&owner)
		if err == nil {
			return nil, errs.New(errs.Conflict, codeRouteTaken, "domain %q: its requests go to script %q by the route %s: remove that first", hostname, owner, pattern)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return nil, err
		}
	}
	return domains(ctx, t, accountID)
}

// attachDomain gives a free host name, or one of the account, to a script. The
// domains are locked.
func (t *tx) attachDomain(ctx context.Context, accountID, name, hostname string, takeOver bool) error {
	if takeOver {
		_, err := t.ExecContext(ctx, `INSERT INTO domains (hostname, id, account_id, script) VALUES ($1, $2, $3, $4)
			ON CONFLICT (hostname) DO UPDATE SET script = excluded.script`, hostname, newHexID(), accountID, name)
		return err
	}
	var owner string
	err := t.QueryRowContext(ctx, `SELECT script FROM domains WHERE hostname = $1`, hostname).Scan(&owner)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		_, err = t.ExecContext(ctx, `INSERT INTO domains (hostname, id, account_id, script) VALUES ($1, $2, $3, $4)`,
			hostname, newHexID(), accountID, name)
	case err == nil && owner != name:
		err = errs.New(errs.Conflict, codeRouteTaken, "domain %q is attached to script %q: say override_existing_origin to move it", hostname, owner)
	}
	return err
}

// DeleteDomain detaches a custom domain, or returns a not_found error.
func (s *Store) DeleteDomain(ctx context.Context, accountID, id string) error {
	return s.write(ctx, "delete domain", func(t *tx) error {
		d, err := scanDomain(t.QueryRowContext(ctx, `DELETE FROM domains WHERE account_id = $1 AND id = $2 RETURNING `+domainColumns, accountID, id))
		if errors.Is(err, sql.ErrNoRows) {
			return errs.New(errs.NotFound, 0, "domain %q does not exist", id)
		}
		if err != nil {
			return err
		}
		if err := t.audit(ctx, accountID, "domain.delete", d.Hostname, d, nil); err != nil {
			return err
		}
		return t.publish(ctx)
	})
}
