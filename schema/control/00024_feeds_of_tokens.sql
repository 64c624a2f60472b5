-- +goose Up
-- The API token that opened a feed of events, with which the feed ends. Empty: a person, or
-- a feed from before; those live for some hours at most.
ALTER TABLE tails ADD COLUMN token_id TEXT NOT NULL DEFAULT '';
ALTER TABLE instant_logs ADD COLUMN token_id TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE instant_logs DROP COLUMN token_id;
ALTER TABLE tails DROP COLUMN token_id;
