-- Times are Unix microseconds in UTC. Columns that end in _json hold documents.

-- +goose Up
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
-- revision: of what gateways see, bumped last in a transaction, so that its row
-- lock makes revisions appear in the order in which they are given.
-- job_id: ids of Logpush jobs are never used twice, because a consumer group's
-- offsets outlive its job.
INSERT INTO counters (name, value) VALUES ('revision', 1), ('job_id', 0);

CREATE TABLE accounts (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    subdomain    TEXT NOT NULL UNIQUE,
    max_versions BIGINT NOT NULL,
    max_jobs     BIGINT NOT NULL,
    created_on   BIGINT NOT NULL
);

CREATE TABLE tokens (
    id           TEXT PRIMARY KEY,
    account_id   TEXT REFERENCES accounts (id) ON DELETE CASCADE, -- null: the operator's
    name         TEXT NOT NULL,
    email        TEXT NOT NULL,
    hash         TEXT NOT NULL UNIQUE, -- SHA-256 of the secret, hex
    scopes       TEXT NOT NULL,        -- separated by spaces
    created_on   BIGINT NOT NULL,
    expires_on   BIGINT,
    last_used_on BIGINT
);

CREATE TABLE scripts (
    account_id      TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name            TEXT NOT NULL,
    tag             TEXT NOT NULL,
    created_on      BIGINT NOT NULL,
    modified_on     BIGINT NOT NULL,
    logpush         BOOLEAN NOT NULL,
    tags_json       TEXT NOT NULL,
    last_version    BIGINT NOT NULL, -- highest number given to a version
    last_deployment BIGINT NOT NULL, -- number of the deployment that serves
    PRIMARY KEY (account_id, name)
);

CREATE TABLE routes (
    pattern    TEXT PRIMARY KEY, -- a request can go to one script only
    account_id TEXT NOT NULL,
    script     TEXT NOT NULL,
    FOREIGN KEY (account_id, script) REFERENCES scripts (account_id, name) ON DELETE CASCADE
);
CREATE INDEX routes_script ON routes (account_id, script);

CREATE TABLE versions (
    id               TEXT PRIMARY KEY,
    account_id       TEXT NOT NULL,
    script           TEXT NOT NULL,
    number           BIGINT NOT NULL,
    created_on       BIGINT NOT NULL,
    source           TEXT NOT NULL,
    author_id        TEXT NOT NULL,
    author_email     TEXT NOT NULL,
    annotations_json TEXT NOT NULL,
    origin_json      TEXT, -- null unless the version is an HTTP server
    UNIQUE (account_id, script, number),
    FOREIGN KEY (account_id, script) REFERENCES scripts (account_id, name) ON DELETE CASCADE
);

CREATE TABLE deployments (
    id               TEXT PRIMARY KEY,
    account_id       TEXT NOT NULL,
    script           TEXT NOT NULL,
    number           BIGINT NOT NULL,
    created_on       BIGINT NOT NULL,
    source           TEXT NOT NULL,
    author_email     TEXT NOT NULL,
    strategy         TEXT NOT NULL,
    splits_json      TEXT NOT NULL,
    annotations_json TEXT NOT NULL,
    UNIQUE (account_id, script, number),
    FOREIGN KEY (account_id, script) REFERENCES scripts (account_id, name) ON DELETE CASCADE
);

CREATE TABLE policies (
    account_id  TEXT NOT NULL,
    script      TEXT NOT NULL,
    enabled     BOOLEAN NOT NULL,
    policy_json TEXT NOT NULL,
    modified_on BIGINT NOT NULL,
    PRIMARY KEY (account_id, script),
    FOREIGN KEY (account_id, script) REFERENCES scripts (account_id, name) ON DELETE CASCADE
);

CREATE TABLE ramps (
    account_id TEXT NOT NULL,
    script     TEXT NOT NULL,
    ramp_json  TEXT NOT NULL,
    PRIMARY KEY (account_id, script),
    FOREIGN KEY (account_id, script) REFERENCES scripts (account_id, name) ON DELETE CASCADE
);

CREATE TABLE decisions (
    id              TEXT PRIMARY KEY,
    account_id      TEXT NOT NULL,
    script          TEXT NOT NULL,
    decided_on      BIGINT NOT NULL,
    from_deployment TEXT NOT NULL,
    decision_json   TEXT NOT NULL,
    FOREIGN KEY (account_id, script) REFERENCES scripts (account_id, name) ON DELETE CASCADE
);
CREATE INDEX decisions_script ON decisions (account_id, script, decided_on);

CREATE TABLE jobs (
    id            BIGINT PRIMARY KEY,
    account_id    TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    settings_json TEXT NOT NULL, -- without health; holds the destination's credentials
    enabled_at    BIGINT,
    revision      BIGINT NOT NULL,
    last_complete BIGINT,
    last_error    BIGINT,
    error_message TEXT
);
CREATE INDEX jobs_account ON jobs (account_id);

CREATE TABLE leases (
    name       TEXT PRIMARY KEY,
    holder     TEXT NOT NULL,
    expires_on BIGINT NOT NULL
);

-- Outlives what it tells of: no foreign keys.
CREATE TABLE audit_log (
    id          TEXT PRIMARY KEY,
    happened_on BIGINT NOT NULL,
    account_id  TEXT NOT NULL,
    token_id    TEXT NOT NULL,
    email       TEXT NOT NULL,
    source      TEXT NOT NULL,
    action      TEXT NOT NULL, -- such as "deployment.create"
    target      TEXT NOT NULL,
    before_json TEXT,
    after_json  TEXT
);
CREATE INDEX audit_log_account ON audit_log (account_id, happened_on);

-- +goose Down
DROP TABLE audit_log;
DROP TABLE leases;
DROP TABLE jobs;
DROP TABLE decisions;
DROP TABLE ramps;
DROP TABLE policies;
DROP TABLE deployments;
DROP TABLE versions;
DROP TABLE routes;
DROP TABLE scripts;
DROP TABLE tokens;
DROP TABLE accounts;
DROP TABLE counters;
