package store

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/internal/certs/certstest"
)

// What docs/operations/network.md says of PostgreSQL over TLS is pgx's to do. A server that
// lets a user in by TLS and with a password alone tells whether it does.
func TestPostgresOverTLS(t *testing.T) {
	address := os.Getenv("TIDEGATE_TEST_POSTGRES_TLS")
	if address == "" {
		t.Skip("TIDEGATE_TEST_POSTGRES_TLS names no database: make test-real has one")
	}
	with := func(name, value string) string {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		q.Set(name, value)
		u.RawQuery = q.Encode()
		return u.String()
	}
	s, err := Open(t.Context(), address, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	passwords := filepath.Join(t.TempDir(), "pgpass")
	if err := os.WriteFile(passwords, []byte("*:*:*:*:wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := func(address, want string) {
		t.Helper()
		s, err := Open(t.Context(), address, Options{})
		if err == nil {
			t.Errorf("opened %s", address)
			_ = s.Close()
			return
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the error is %v, want one with %q and without the password", err, want)
		}
	}
	refused(with("sslmode", "disable"), "pg_hba.conf rejects connection")
	refused(with("sslrootcert", certstest.NewAuthority(t, "another").File), "certificate signed by unknown authority")
	refused(with("passfile", passwords), "password authentication failed")
}
