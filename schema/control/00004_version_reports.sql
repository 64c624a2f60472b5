-- +goose Up
-- The newest word of each router on each version. It goes with the version; a
-- router that is no more is known by its reported_on.
CREATE TABLE version_reports (
    version_id  TEXT NOT NULL REFERENCES versions (id) ON DELETE CASCADE,
    router_id   TEXT NOT NULL,
    account_id  TEXT NOT NULL,
    script      TEXT NOT NULL,
    phase       TEXT NOT NULL,
    error       TEXT NOT NULL,
    reported_on BIGINT NOT NULL,
    PRIMARY KEY (version_id, router_id)
);
CREATE INDEX version_reports_script ON version_reports (account_id, script);

-- +goose Down
DROP TABLE version_reports;
