// Package storetest makes control planes' databases for tests.
package storetest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"tidegate/internal/store"
)

// New opens a SQLite database of the test's own, in which every table is there and empty, and closes it at the
// test's end.
func New(t testing.TB, opts store.Options) *store.Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.db")
	content, err := empty()
	if err == nil {
		err = os.WriteFile(path, content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// empty is made once a process: the migrations take longer than most tests.
var empty = sync.OnceValues(func() (content []byte, err error) {
	dir, err := os.MkdirTemp("", "tidegate-store-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "control.db")
	s, err := store.Open(context.Background(), path, store.Options{})
	if err == nil {
		err = s.Close() // which leaves nothing in the write-ahead log
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path) // #nosec G304 -- made above
})
