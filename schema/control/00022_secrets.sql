-- +goose Up
-- The keys that seal what is secret here: every process must have them all. The keys
-- themselves are elsewhere; proof is the key's own id, sealed.
CREATE TABLE secret_keys (
    id         TEXT PRIMARY KEY,
    proof      TEXT NOT NULL,
    created_on BIGINT NOT NULL
);
-- secrets_left: 1 while an SQLite file may hold, where nothing is any more, what was
-- replaced by something sealed.
INSERT INTO counters (name, value) VALUES ('secret_keys', 0), ('secrets_left', 0);

-- What was the secret in the URL of a WebSocket is its SHA-256 from here on, and sealed
-- holds the secret, which lists show. Those who watch begin anew: a hash of what is there
-- cannot be made here, and none of it lives for long.
DELETE FROM tails;
DELETE FROM instant_logs;
ALTER TABLE tails ADD COLUMN sealed TEXT NOT NULL DEFAULT '';
ALTER TABLE instant_logs ADD COLUMN sealed TEXT NOT NULL DEFAULT '';
UPDATE counters SET value = value + 1 WHERE name = 'revision';

-- +goose Down
DELETE FROM tails;
DELETE FROM instant_logs;
ALTER TABLE instant_logs DROP COLUMN sealed;
ALTER TABLE tails DROP COLUMN sealed;
UPDATE counters SET value = value + 1 WHERE name = 'revision';
DELETE FROM counters WHERE name IN ('secret_keys', 'secrets_left');
DROP TABLE secret_keys;
