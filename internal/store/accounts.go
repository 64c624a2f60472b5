package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

const (
	// defaultMaxJobs of an account: each one is a consumer group on the topic.
	defaultMaxJobs = 50
	// lastUsedResolution keeps a busy token from writing at every request.
	lastUsedResolution = time.Minute
	// subdomainTries before giving up on a free name.
	subdomainTries = 1000
)

// Bootstrap gives an empty database its first account, with subdomain "dev", and
// the operator's token. Its secret cannot be read again, so save gets it before
// the account is committed: a crash in between leaves a secret that opens nothing,
// and the next call makes another. An error of save undoes all. On a database that
// has accounts nothing happens and created is false.
func (s *Store) Bootstrap(ctx context.Context, account control.Account, save func(adminToken string) error) (created bool, err error) {
	err = s.write(ctx, "bootstrap", func(t *tx) error {
		created = false
		var accounts int
		if err := t.QueryRowContext(ctx, `SELECT COUNT(*) FROM accounts`).Scan(&accounts); err != nil || accounts > 0 {
			return err
		}
		inserted, err := t.insertAccount(ctx, firstAccount(account, t.now))
		if err != nil || !inserted { // another process was first
			return err
		}
		_, secret, err := t.insertOperator(ctx)
		if err != nil {
			return err
		}
		if err := t.publish(ctx); err != nil {
			return err
		}
		created = true
		return save(secret)
	})
	return created && err == nil, err
}

// firstAccount fills what the caller left open.
func firstAccount(a control.Account, now time.Time) control.Account {
	if a.ID == "" {
		a.ID = control.FirstAccountID
	}
	if a.Name == "" {
		a.Name = "Tidegate"
	}
	if a.Subdomain == "" {
		a.Subdomain = "dev"
	}
	return withDefaults(a, now)
}

func withDefaults(a control.Account, now time.Time) control.Account {
	if a.MaxVersions == 0 {
		a.MaxVersions = deploy.DefaultMaxVersions
	}
	if a.MaxJobs == 0 {
		a.MaxJobs = defaultMaxJobs
	}
	a.CreatedOn = now
	return a
}

// CreateAccount makes an account whose subdomain is its name in the letters of a
// DNS label, with a number behind it if that is taken.
func (s *Store) CreateAccount(ctx context.Context, name string) (control.Account, error) {
	var account control.Account
	err := s.write(ctx, "create account", func(t *tx) error {
		account = withDefaults(control.Account{ID: newHexID(), Name: name}, t.now)
		base := subdomainOf(name)
		for i := 1; i <= subdomainTries; i++ {
			account.Subdomain = base
			if i > 1 {
				account.Subdomain = fmt.Sprintf("%s-%d", base, i)
			}
			inserted, err := t.insertAccount(ctx, account)
			if err != nil {
				return err
			}
			if inserted {
				return t.audit(ctx, account.ID, "account.create", account.ID, nil, account)
			}
		}
		return errs.New(errs.Conflict, 10031, "name %q has no free subdomain left: choose another name", name).At("/name")
	})
	return account, err
}

// insertAccount reports false when the id or the subdomain is taken.
func (t *tx) insertAccount(ctx context.Context, a control.Account) (bool, error) {
	n, err := changed(ctx, t, `INSERT INTO accounts (id, name, subdomain, max_versions, max_jobs, created_on)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
		a.ID, a.Name, a.Subdomain, a.MaxVersions, a.MaxJobs, a.CreatedOn.UnixMicro())
	return n == 1, err
}

// subdomainOf keeps the letters and digits of name; at most 40 characters, so
// that a number fits behind it.
func subdomainOf(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() == 40 {
			break
		}
	}
	label := strings.Trim(b.String(), "-")
	if label == "" {
		return "account"
	}
	return label
}

const accountColumns = `id, name, subdomain, max_versions, max_jobs, created_on`

func scanAccount(row scanner) (control.Account, error) {
	var a control.Account
	var created int64
	err := row.Scan(&a.ID, &a.Name, &a.Subdomain, &a.MaxVersions, &a.MaxJobs, &created)
	a.CreatedOn = fromMicros(created)
	return a, err
}

// Accounts returns every account, oldest first.
func (s *Store) Accounts(ctx context.Context) ([]control.Account, error) {
	var list []control.Account
	err := each(ctx, s.reader, func(row scanner) error {
		a, err := scanAccount(row)
		list = append(list, a)
		return err
	}, `SELECT `+accountColumns+` FROM accounts ORDER BY created_on, id`)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return list, nil
}

// Account returns one account, or a not_found error.
func (s *Store) Account(ctx context.Context, id string) (control.Account, error) {
	return account(ctx, s.reader, id)
}

func account(ctx context.Context, q querier, id string) (control.Account, error) {
	a, err := scanAccount(q.QueryRowContext(ctx, `SELECT `+accountColumns+` FROM accounts WHERE id = $1`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return a, errs.New(errs.NotFound, 7003, "account %q does not exist", id)
	}
	if err != nil {
		return a, fmt.Errorf("read account %s: %w", id, err)
	}
	return a, nil
}

// UpdateAccount changes the members of u that are not nil. What an account has
// already, above a new limit, stays.
func (s *Store) UpdateAccount(ctx context.Context, id string, u control.AccountUpdate) (control.Account, error) {
	var after control.Account
	err := s.write(ctx, "update account", func(t *tx) error {
		before, err := account(ctx, t, id)
		if err != nil {
			return err
		}
		after, err = scanAccount(t.QueryRowContext(ctx, `UPDATE accounts
			SET name = COALESCE($1, name), max_versions = COALESCE($2, max_versions), max_jobs = COALESCE($3, max_jobs)
			WHERE id = $4 RETURNING `+accountColumns, u.Name, u.MaxVersions, u.MaxJobs, id))
		if err != nil {
			return err
		}
		return t.audit(ctx, id, "account.update", id, before, after)
	})
	return after, err
}

// newHexID is 128 random bits, the form of account and token ids.
func newHexID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // documented never to fail
	return hex.EncodeToString(b[:])
}

// newSecret is 52 characters with 260 random bits: too many to guess, so that
// its plain hash may be stored.
func newSecret() string { return rand.Text() + rand.Text() }

func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
