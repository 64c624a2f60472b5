-- +goose Up
-- Sessions of people who have signed in at an identity provider. What they may do is not
-- kept: it follows from their groups and the roles that are configured.
CREATE TABLE person_sessions (
    hash        TEXT PRIMARY KEY, -- SHA-256 of what the cookie holds, hex
    person_id   TEXT NOT NULL,    -- of the issuer and the subject
    person_json TEXT NOT NULL,    -- as of their newest signing in, in all of their sessions
    created_on  BIGINT NOT NULL,
    used_on     BIGINT NOT NULL, -- kept to the minute
    expires_on  BIGINT NOT NULL
);
CREATE INDEX person_sessions_person ON person_sessions (person_id);

-- +goose Down
DROP TABLE person_sessions;
