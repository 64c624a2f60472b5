package store

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/seal"
	"tidegate/schema/control"
)

// BenchmarkWatched is one step of the rollback controller in the store, with ten deployments a
// script, of which the newest is a split for a tenth of them. "still" is a step before which
// nothing was changed, "one" is one before which one script was. "cold" is the first of a control
// plane that takes over, "far" that with a database that each question takes 0.3 ms longer to.
// TIDEGATE_TEST_POSTGRES adds PostgreSQL.
func BenchmarkWatched(b *testing.B) {
	databases := map[string]func(*testing.B) string{"sqlite": func(b *testing.B) string { return filepath.Join(b.TempDir(), "control.db") }}
	if server := os.Getenv(postgresEnv); server != "" {
		databases["postgres"] = func(b *testing.B) string { return newPostgresSchema(b, server) }
	}
	for name, databaseURL := range databases {
		for _, scripts := range []int{10, 100, 1000, 5000} {
			b.Run(fmt.Sprintf("%s/%d", name, scripts), func(b *testing.B) {
				databaseURL, keys := databaseURL(b), newKeys(b)
				s := openWatched(b, databaseURL, keys)
				deployWatched(b, s, scripts)
				if _, err := s.Watched(b.Context()); err != nil { // of a control plane that runs, not of one that begins
					b.Fatal(err)
				}
				b.Run("still", func(b *testing.B) { benchmarkWatched(b, s, scripts, func() {}) })
				b.Run("one", func(b *testing.B) {
					benchmarkWatched(b, s, scripts, func() {
						p := deploy.DefaultPolicy()
						p.Enabled, p.MinRequests = true, time.Now().UnixMilli()
						mustPolicy(b, s, "script-0", p)
					})
				})
				b.Run("cold", func(b *testing.B) { benchmarkCold(b, databaseURL, keys, scripts, 0) })
				if name == "postgres" {
					b.Run("far", func(b *testing.B) { benchmarkCold(b, databaseURL, keys, scripts, 300*time.Microsecond) })
				}
			})
		}
	}
}

func benchmarkWatched(b *testing.B, s *Store, scripts int, change func()) {
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		change()
		b.StartTimer()
		list, err := s.Watched(b.Context())
		if err != nil || len(list) != scripts {
			b.Fatalf("%d watched, error %v", len(list), err)
		}
	}
}

func benchmarkCold(b *testing.B, databaseURL string, keys *seal.Keys, scripts int, delay time.Duration) {
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		s := openWatched(b, databaseURL, keys)
		b.StartTimer()
		var list []deploy.Watched
		err := s.read(b.Context(), "", func(t *sql.Tx) (err error) {
			list, err = s.watchedLocked(b.Context(), far{t, delay})
			return err
		})
		if err != nil || len(list) != scripts {
			b.Fatalf("%d watched, error %v", len(list), err)
		}
	}
}

// far is a database that each question takes longer to.
type far struct {
	querier
	delay time.Duration
}

func (f far) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	time.Sleep(f.delay)
	return f.querier.QueryContext(ctx, query, args...)
}

func openWatched(b *testing.B, databaseURL string, keys *seal.Keys) *Store {
	b.Helper()
	s, err := Open(b.Context(), databaseURL, Options{Keys: keys})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

func deployWatched(b *testing.B, s *Store, scripts int) {
	b.Helper()
	if _, err := s.Bootstrap(b.Context(), control.Account{}, forget); err != nil {
		b.Fatal(err)
	}
	p := deploy.DefaultPolicy()
	p.Enabled = true
	for i := range scripts {
		name := fmt.Sprintf("script-%d", i)
		good, bad := mustVersion(b, s, name), mustVersion(b, s, name)
		for range 9 {
			mustDeploy(b, s, name, full(good))
		}
		if i%10 == 0 {
			mustDeploy(b, s, name, share(good, 90), share(bad, 10))
		} else {
			mustDeploy(b, s, name, full(bad))
		}
		mustPolicy(b, s, name, p)
	}
}
