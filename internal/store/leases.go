package store

import (
	"context"
	"fmt"
	"time"
)

// clockAheadMax is far more than clocks differ that somebody looks after: what is later was
// written by one that was wrong. With less, two processes whose clocks differ would take a
// lease from each other at every step.
const clockAheadMax = 5 * time.Minute

// AcquireLease makes holder the owner of the lease called name for ttl, or
// extends its ownership, and reports whether it is the owner now. It compares
// and sets in one statement, so of two processes only one gets a lease that has
// run out. Now decides: clocks of the processes may differ by less than ttl. One that ends
// later than clocks that differ can explain (clockAheadMax) is as good as run out: its holder's
// clock was wrong, and would keep everybody from acting until then.
func (s *Store) AcquireLease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error) {
	now := s.now()
	result, err := s.writer.ExecContext(ctx, `INSERT INTO leases (name, holder, expires_on) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_on = excluded.expires_on
		WHERE leases.holder = excluded.holder OR leases.expires_on <= $4 OR leases.expires_on >= $5`,
		name, holder, now.Add(ttl).UnixMicro(), now.UnixMicro(), now.Add(ttl+clockAheadMax).UnixMicro())
	if err != nil {
		return false, fmt.Errorf("acquire lease %s: %w", name, err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("acquire lease %s: %w", name, err)
	}
	return n == 1, nil
}

// ReleaseLease gives the lease up if holder has it, so that another need not
// wait for its end.
func (s *Store) ReleaseLease(ctx context.Context, name, holder string) error {
	if _, err := s.writer.ExecContext(ctx, `DELETE FROM leases WHERE name = $1 AND holder = $2`, name, holder); err != nil {
		return fmt.Errorf("release lease %s: %w", name, err)
	}
	return nil
}
