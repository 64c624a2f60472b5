package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
)

// signingKeyBytes is as much as HMAC with SHA-256 has use for.
const signingKeyBytes = 32

// SigningKey returns the key of that name, which the first call makes. It is the
// same for every process on this database, and in a copy of it.
func (s *Store) SigningKey(ctx context.Context, name string) ([]byte, error) {
	key, err := signingKey(ctx, s.reader, name)
	if !errors.Is(err, sql.ErrNoRows) {
		return key, wrapKey(name, err)
	}
	err = s.write(ctx, "make a signing key", func(t *tx) error {
		fresh := make([]byte, signingKeyBytes)
		_, _ = rand.Read(fresh) // documented never to fail
		_, err := t.ExecContext(ctx, `INSERT INTO signing_keys (name, secret, created_on) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING`,
			name, base64.StdEncoding.EncodeToString(fresh), t.now.UnixMicro())
		return err
	})
	if err != nil {
		return nil, err
	}
	// Another process may have been quicker.
	key, err = signingKey(ctx, s.writer, name)
	return key, wrapKey(name, err)
}

func wrapKey(name string, err error) error {
	if err != nil {
		return fmt.Errorf("read the signing key %s: %w", name, err)
	}
	return nil
}

func signingKey(ctx context.Context, q querier, name string) ([]byte, error) {
	var text string
	if err := q.QueryRowContext(ctx, `SELECT secret FROM signing_keys WHERE name = $1`, name).Scan(&text); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(text)
}
