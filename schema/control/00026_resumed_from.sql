-- +goose Up
-- Up to when a job had delivered everything when it was last switched on (microseconds). What its
-- partitions tell is overwritten by the new delivery. Null: nobody knows.
ALTER TABLE jobs ADD COLUMN resumed_from BIGINT;

-- +goose Down
ALTER TABLE jobs DROP COLUMN resumed_from;
