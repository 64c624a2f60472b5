-- +goose Up
-- Messages about rollback decisions, one a target, stored together with the decision.
-- No reference to scripts: whoever deletes a script has not taken back what happened.
CREATE TABLE notifications (
    id            TEXT PRIMARY KEY,
    account_id    TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    script        TEXT NOT NULL,
    kind          TEXT NOT NULL, -- rollback, pause, fail, error, promote, done
    target_type   TEXT NOT NULL,
    target_key    TEXT NOT NULL, -- the same for messages to the same place
    target_json   TEXT NOT NULL, -- with secrets while they are needed
    decision_json TEXT NOT NULL,
    created_on    BIGINT NOT NULL,
    ended_on      BIGINT,          -- when what an alert tells of was over
    state         TEXT NOT NULL,   -- waiting, sent, failed, dropped
    attempts      BIGINT NOT NULL, -- tries that were begun
    next_try      BIGINT NOT NULL,
    tried_on      BIGINT,
    leased_until  BIGINT NOT NULL, -- until then a process is trying; 0 for none
    error         TEXT NOT NULL    -- of the last try
);
CREATE INDEX notifications_due ON notifications (state, next_try);
CREATE INDEX notifications_leased ON notifications (target_key, leased_until);
CREATE INDEX notifications_script ON notifications (account_id, script, created_on);

-- +goose Down
DROP TABLE notifications;
