-- +goose Up
-- The share of a script's successful requests that leave an event of their own.
ALTER TABLE scripts ADD COLUMN head_sampling_rate DOUBLE PRECISION NOT NULL DEFAULT 1;

-- +goose Down
ALTER TABLE scripts DROP COLUMN head_sampling_rate;
