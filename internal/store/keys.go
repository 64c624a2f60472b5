package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"

	"tidegate/internal/seal"
)

// signingKeyBytes is as much as HMAC with SHA-256 has use for.
const signingKeyBytes = 32

// SigningKey returns the key of that name, which the first call makes. It is the
// same for every process on this database, and in a copy of it.
func (s *Store) SigningKey(ctx context.Context, name string) ([]byte, error) {
	key, err := signingKey(ctx, s.reader, s.keys, name)
	if !errors.Is(err, sql.ErrNoRows) {
		return key, wrapKey(name, err)
	}
	err = s.write(ctx, "make a signing key", func(t *tx) error {
		fresh := make([]byte, signingKeyBytes)
		_, _ = rand.Read(fresh) // documented never to fail
		sealed, err := t.keys.Seal(base64.StdEncoding.EncodeToString(fresh), signingPlace(name))
		if err != nil {
			return err
		}
		_, err = t.ExecContext(ctx, `INSERT INTO signing_keys (name, secret, created_on) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING`,
			name, sealed, t.now.UnixMicro())
		return err
	})
	if err != nil {
		return nil, err
	}
	// Another process may have been quicker.
	key, err = signingKey(ctx, s.writer, s.keys, name)
	return key, wrapKey(name, err)
}

func wrapKey(name string, err error) error {
	if err != nil {
		return fmt.Errorf("read the signing key %s: %w", name, err)
	}
	return nil
}

func signingPlace(name string) string { return placeOf("signing_keys", "secret", name) }

func signingKey(ctx context.Context, q querier, keys *seal.Keys, name string) ([]byte, error) {
	var text string
	if err := q.QueryRowContext(ctx, `SELECT secret FROM signing_keys WHERE name = $1`, name).Scan(&text); err != nil {
		return nil, err
	}
	text, err := keys.Open(text, signingPlace(name))
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(text)
}
