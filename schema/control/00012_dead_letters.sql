-- +goose Up
-- Parts of batches that a destination refused for good. One that was sent again or
-- deleted keeps its row without content, so that a repeat of its batch does not
-- bring it back.
CREATE TABLE dead_letters (
    id           TEXT PRIMARY KEY,
    job_id       BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    "partition"  BIGINT NOT NULL,
    batch_id     TEXT NOT NULL,
    begin_offset BIGINT NOT NULL,
    end_offset   BIGINT NOT NULL,
    records      BIGINT NOT NULL,
    from_on      BIGINT NOT NULL,
    until_on     BIGINT NOT NULL,
    status       BIGINT NOT NULL,
    reason       TEXT NOT NULL,
    attempts     BIGINT NOT NULL,
    state        TEXT NOT NULL, -- new, resent, deleted
    bytes        BIGINT NOT NULL,
    created_on   BIGINT NOT NULL,
    closed_on    BIGINT, -- when it was resent or deleted
    object_json  TEXT NOT NULL,
    body         BYTEA,  -- gzip; null once the letter is closed
    UNIQUE (job_id, "partition", begin_offset, end_offset, batch_id)
);
CREATE INDEX dead_letters_job ON dead_letters (job_id, state, created_on);

-- +goose Down
DROP TABLE dead_letters;
