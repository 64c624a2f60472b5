-- +goose Up
-- Requests to delete what an account, or one script of it, recorded before a time. They
-- stay, as the proof that it was done. No reference to scripts: the events of one that is
-- gone can be deleted, too.
CREATE TABLE deletions (
    id           TEXT PRIMARY KEY,
    account_id   TEXT NOT NULL,
    script_name  TEXT NOT NULL, -- empty for every script
    before_on    BIGINT NOT NULL,
    state        TEXT NOT NULL, -- queued, running, done
    requested_by TEXT NOT NULL,
    created_on   BIGINT NOT NULL,
    started_on   BIGINT,
    ended_on     BIGINT,
    checked_on   BIGINT,
    places_json  TEXT NOT NULL,
    error        TEXT NOT NULL,
    revision     BIGINT NOT NULL
);
CREATE INDEX deletions_account ON deletions (account_id, created_on);
CREATE INDEX deletions_state ON deletions (state, ended_on);

-- +goose Down
DROP TABLE deletions;
