-- +goose Up
-- Runs of schedules that a router has claimed. The row lets one router in; rows
-- of runs that nobody can ask for any more are removed with the next claim.
CREATE TABLE cron_runs (
    account_id   TEXT NOT NULL,
    script       TEXT NOT NULL,
    cron         TEXT NOT NULL,
    scheduled_on BIGINT NOT NULL,
    PRIMARY KEY (account_id, script, cron, scheduled_on)
);
CREATE INDEX cron_runs_scheduled_on ON cron_runs (scheduled_on);

-- +goose Down
DROP TABLE cron_runs;
