-- +goose Up
ALTER TABLE scripts ADD COLUMN host_disabled BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE scripts ADD COLUMN previews_disabled BOOLEAN NOT NULL DEFAULT FALSE;

CREATE TABLE schedules (
    account_id  TEXT NOT NULL,
    script      TEXT NOT NULL,
    cron        TEXT NOT NULL,
    created_on  BIGINT NOT NULL,
    PRIMARY KEY (account_id, script, cron),
    FOREIGN KEY (account_id, script) REFERENCES scripts (account_id, name) ON DELETE CASCADE
);

-- Custom domains: whole hosts that lead to one script. They are no rows of routes,
-- because setting a script's routes leaves its domains alone.
CREATE TABLE domains (
    hostname   TEXT PRIMARY KEY, -- lower case
    id         TEXT NOT NULL UNIQUE,
    account_id TEXT NOT NULL,
    script     TEXT NOT NULL,
    FOREIGN KEY (account_id, script) REFERENCES scripts (account_id, name) ON DELETE CASCADE
);
CREATE INDEX domains_script ON domains (account_id, script);

-- A script is being watched as long as it has a row here, also one that has
-- expired: snapshots are read by revision, not by time. The sweep removes such
-- rows, and publishes that.
CREATE TABLE tails (
    id           TEXT PRIMARY KEY,
    account_id   TEXT NOT NULL,
    script       TEXT NOT NULL,
    secret       TEXT NOT NULL UNIQUE, -- in its URL; whoever may read the script may see it
    filters_json TEXT NOT NULL,
    created_on   BIGINT NOT NULL,
    expires_on   BIGINT NOT NULL,
    FOREIGN KEY (account_id, script) REFERENCES scripts (account_id, name) ON DELETE CASCADE
);
CREATE INDEX tails_script ON tails (account_id, script);

-- +goose Down
DROP TABLE tails;
DROP TABLE domains;
DROP TABLE schedules;
ALTER TABLE scripts DROP COLUMN previews_disabled;
ALTER TABLE scripts DROP COLUMN host_disabled;
