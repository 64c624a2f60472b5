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

-- Since when no upload has succeeded, and when the service switched the job off for that.
ALTER TABLE jobs ADD COLUMN failing_since BIGINT;
ALTER TABLE jobs ADD COLUMN disabled_on BIGINT;

-- What the processes tell of deliveries. It can be lost without harm.
CREATE TABLE logpush_partitions (
    job_id      BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    "partition" BIGINT NOT NULL,
    reported_on BIGINT NOT NULL,
    committed   BIGINT NOT NULL,
    next_offset BIGINT NOT NULL,
    oldest_on   BIGINT, -- null: unknown
    message     TEXT NOT NULL,
    PRIMARY KEY (job_id, "partition")
);
CREATE TABLE logpush_minutes (
    job_id           BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    minute_on        BIGINT NOT NULL,
    status           BIGINT NOT NULL,
    final            BOOLEAN NOT NULL,
    destination_type TEXT NOT NULL,
    destination      TEXT NOT NULL, -- without credentials
    uploads          BIGINT NOT NULL,
    records          BIGINT NOT NULL,
    bytes            BIGINT NOT NULL,
    bytes_compressed BIGINT NOT NULL,
    duration_ms      BIGINT NOT NULL,
    duration_max_ms  BIGINT NOT NULL,
    PRIMARY KEY (job_id, minute_on, status, final, destination_type, destination)
);
CREATE TABLE logpush_drops (
    job_id    BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    minute_on BIGINT NOT NULL,
    reason    TEXT NOT NULL,
    events    BIGINT NOT NULL,
    PRIMARY KEY (job_id, minute_on, reason)
);
CREATE TABLE logpush_failures (
    id          TEXT PRIMARY KEY,
    job_id      BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    "partition" BIGINT NOT NULL, -- -1: the whole job
    first_on    BIGINT NOT NULL,
    last_on     BIGINT NOT NULL,
    times       BIGINT NOT NULL,
    message     TEXT NOT NULL
);
CREATE INDEX logpush_failures_job ON logpush_failures (job_id, last_on);

-- Where an account is told of failures, and when it was told last.
CREATE TABLE logpush_alerts (
    account_id TEXT PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    url        TEXT NOT NULL,
    secret     TEXT NOT NULL,
    policy_id  TEXT NOT NULL
);
CREATE TABLE logpush_alerts_sent (
    job_id     BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    alert_type TEXT NOT NULL,
    sent_on    BIGINT NOT NULL,
    PRIMARY KEY (job_id, alert_type)
);

-- +goose Down
DROP TABLE logpush_alerts_sent;
DROP TABLE logpush_alerts;
DROP TABLE logpush_failures;
DROP TABLE logpush_drops;
DROP TABLE logpush_minutes;
DROP TABLE logpush_partitions;
ALTER TABLE jobs DROP COLUMN disabled_on;
ALTER TABLE jobs DROP COLUMN failing_since;
DROP TABLE dead_letters;
