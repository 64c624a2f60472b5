-- +goose Up
-- modules: the row lock lets one writer add or remove modules at a time, so that
-- one that nobody refers to any more is not referred to again while it is removed.
INSERT INTO counters (name, value) VALUES ('modules', 0);

-- SQLite gives a column of any type what is put into it as bytes.
CREATE TABLE modules (
    sha256  TEXT PRIMARY KEY, -- of content, hex
    content BYTEA NOT NULL
);

CREATE TABLE version_modules (
    version_id TEXT NOT NULL REFERENCES versions (id) ON DELETE CASCADE,
    sha256     TEXT NOT NULL REFERENCES modules (sha256),
    PRIMARY KEY (version_id, sha256)
);
CREATE INDEX version_modules_sha256 ON version_modules (sha256);

-- Both null unless the version runs in the Workers runtime. worker_json holds its
-- secrets; exports_json is what gateways are told.
ALTER TABLE versions ADD COLUMN worker_json TEXT;
ALTER TABLE versions ADD COLUMN exports_json TEXT;

-- Settings of the script that are kept and shown, and that nothing here interprets.
ALTER TABLE scripts ADD COLUMN settings_json TEXT NOT NULL DEFAULT '{}';

-- +goose Down
ALTER TABLE scripts DROP COLUMN settings_json;
ALTER TABLE versions DROP COLUMN exports_json;
ALTER TABLE versions DROP COLUMN worker_json;
DROP TABLE version_modules;
DROP TABLE modules;
DELETE FROM counters WHERE name = 'modules';
