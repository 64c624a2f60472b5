-- +goose Up
-- Keys that every control plane on this database signs with.
CREATE TABLE signing_keys (
    name        TEXT PRIMARY KEY,
    secret      TEXT NOT NULL,
    created_on  BIGINT NOT NULL
);

-- Sessions of instant logs. One of an account or a zone is live at a time.
CREATE TABLE instant_logs (
    id            TEXT PRIMARY KEY, -- secret: in the URL of its WebSocket, and all that this asks for
    account_id    TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    zone          TEXT NOT NULL, -- a domain name; empty for the whole account
    settings_json TEXT NOT NULL,
    created_on    BIGINT NOT NULL,
    expires_on    BIGINT NOT NULL, -- whoever listens
    ends_on       BIGINT NOT NULL, -- unless somebody listens, and never after expires_on
    UNIQUE (account_id, zone)
);

-- +goose Down
DROP TABLE instant_logs;
DROP TABLE signing_keys;
