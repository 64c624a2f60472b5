package store

import (
	"context"
	"database/sql"
	"errors"

	"tidegate/internal/deploy"
)

// Sampling returns how a script is sampled; one for which nobody has said anything
// is not.
func (s *Store) Sampling(ctx context.Context, accountID, script string) (deploy.Sampling, error) {
	var sampling deploy.Sampling
	err := s.read(ctx, "read sampling", func(t *sql.Tx) (err error) {
		sampling, err = readSampling(ctx, t, accountID, script)
		return err
	})
	return sampling, err
}

func readSampling(ctx context.Context, q querier, accountID, script string) (deploy.Sampling, error) {
	var sampling deploy.Sampling
	err := q.QueryRowContext(ctx, `SELECT head_sampling_rate FROM scripts WHERE account_id = $1 AND name = $2`, accountID, script).
		Scan(&sampling.HeadSamplingRate)
	if errors.Is(err, sql.ErrNoRows) {
		err = noScript(script)
	}
	return sampling, err
}

// SaveSampling says how a script is sampled from now on. sampling must be valid.
func (s *Store) SaveSampling(ctx context.Context, accountID, script string, sampling deploy.Sampling) error {
	return s.write(ctx, "save sampling", func(t *tx) error {
		if _, _, err := t.lockScript(ctx, accountID, script); err != nil {
			return err
		}
		before, err := readSampling(ctx, t, accountID, script)
		if err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, `UPDATE scripts SET head_sampling_rate = $1 WHERE account_id = $2 AND name = $3`,
			sampling.HeadSamplingRate, accountID, script); err != nil {
			return err
		}
		if err := t.audit(ctx, accountID, "sampling.save", script, before, sampling); err != nil {
			return err
		}
		return t.publish(ctx)
	})
}
