-- +goose Up
-- The session in which a feed of events was opened, with which it ends: SHA-256 of what opens
-- it, hex. token_id is then that of the session's token, or a person's id. Empty: none, or a
-- feed from before.
ALTER TABLE tails ADD COLUMN session_hash TEXT NOT NULL DEFAULT '';
ALTER TABLE instant_logs ADD COLUMN session_hash TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE instant_logs DROP COLUMN session_hash;
ALTER TABLE tails DROP COLUMN session_hash;
