package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"
)

// AcquireLease makes holder the owner of the lease called name for ttl, or
// extends its ownership, and reports whether it is the owner now. It compares
// and sets in one statement, so of two processes only one gets a lease that has
// run out. Now decides: clocks of the processes may differ by less than ttl.
//
// A holder whose clock was ahead leaves a lease that ends far from now, when it dies. It is
// taken over as well once it has been asked for in vain for ttl without having been extended.
func (s *Store) AcquireLease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error) {
	now := s.now()
	held, err := s.setLease(ctx, name, holder, now.Add(ttl), now.UnixMicro())
	if err != nil || held {
		return held, err
	}
	var ends int64
	err = s.writer.QueryRowContext(ctx, `SELECT expires_on FROM leases WHERE name = $1`, name).Scan(&ends)
	if errors.Is(err, sql.ErrNoRows) { // released just now
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("acquire lease %s for %s: %w", name, holder, err)
	}
	if s.leases.unchanged(name, ends) <= ttl {
		return false, nil
	}
	return s.setLease(ctx, name, holder, now.Add(ttl), ends) // extended since, it ends later
}

// setLease gives the lease to holder if it has it, or if it ends at over (microseconds) or before.
func (s *Store) setLease(ctx context.Context, name, holder string, until time.Time, over int64) (held bool, err error) {
	n, err := changed(ctx, s.writer, `INSERT INTO leases (name, holder, expires_on) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_on = excluded.expires_on
		WHERE leases.holder = excluded.holder OR leases.expires_on <= $4`,
		name, holder, until.UnixMicro(), over)
	if err != nil {
		return false, fmt.Errorf("acquire lease %s for %s: %w", name, holder, err)
	}
	return n == 1, nil
}

// sightings are leases of others as this process found them. It is safe for concurrent use.
type sightings struct {
	mu   sync.Mutex
	list map[string]sighting
}

// sightingMax is longer than any lease: who asks for one that long without luck asks for another.
const sightingMax = time.Hour

type sighting struct {
	ends  int64     // microseconds
	first time.Time // by the clock that nobody sets
}

// unchanged returns for how long the lease has been found to end then.
func (l *sightings) unchanged(name string, ends int64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if seen, ok := l.list[name]; ok && seen.ends == ends {
		return time.Since(seen.first)
	}
	if l.list == nil {
		l.list = map[string]sighting{}
	}
	maps.DeleteFunc(l.list, func(_ string, s sighting) bool { return time.Since(s.first) > sightingMax })
	l.list[name] = sighting{ends, time.Now()}
	return 0
}

// ReleaseLease gives the lease up if holder has it, so that another need not
// wait for its end.
func (s *Store) ReleaseLease(ctx context.Context, name, holder string) error {
	if _, err := s.writer.ExecContext(ctx, `DELETE FROM leases WHERE name = $1 AND holder = $2`, name, holder); err != nil {
		return fmt.Errorf("release lease %s: %w", name, err)
	}
	return nil
}
