-- +goose Up
-- Replays of Logpush jobs. The process that runs one holds it until lease_until and
-- writes under its fence, which grows each time that a process takes the replay.
CREATE TABLE replays (
    id              BIGINT PRIMARY KEY,
    account_id      TEXT NOT NULL,
    job_id          BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    request_json    TEXT NOT NULL,
    state           TEXT NOT NULL, -- queued, running, done, failed, canceled
    created_on      BIGINT NOT NULL,
    started_on      BIGINT,
    ended_on        BIGINT,
    progress_json   TEXT NOT NULL,
    partitions_json TEXT NOT NULL,
    holder          TEXT NOT NULL,
    lease_until     BIGINT NOT NULL, -- 0: nobody's
    fence           BIGINT NOT NULL
);
CREATE INDEX replays_job ON replays (job_id, id);
CREATE INDEX replays_state ON replays (state, id);
INSERT INTO counters (name, value) VALUES ('replay_id', 0);

-- +goose Down
DELETE FROM counters WHERE name = 'replay_id';
DROP TABLE replays;
