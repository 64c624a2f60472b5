-- +goose Up
-- Whoever is signed in to the dashboard. A session stands for its token and ends with it.
CREATE TABLE sessions (
    hash       TEXT PRIMARY KEY, -- SHA-256 of what the cookie holds, hex
    token_id   TEXT NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    created_on BIGINT NOT NULL,
    used_on    BIGINT NOT NULL, -- kept to the minute
    expires_on BIGINT NOT NULL
);
CREATE INDEX sessions_token ON sessions (token_id);

-- Links that begin a session, once. A row ends with its use.
CREATE TABLE session_links (
    hash       TEXT PRIMARY KEY, -- SHA-256 of its code, hex
    token_id   TEXT NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    expires_on BIGINT NOT NULL
);
CREATE INDEX session_links_token ON session_links (token_id);

-- +goose Down
DROP TABLE session_links;
DROP TABLE sessions;
