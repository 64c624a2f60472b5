-- +goose Up
-- The storage of one class of Durable Objects. An id is given once: routers name
-- the folder of the storage by it, also after the class was renamed.
CREATE TABLE durable_object_namespaces (
    id         TEXT PRIMARY KEY, -- 32 hex digits
    account_id TEXT NOT NULL,
    script     TEXT NOT NULL,
    class      TEXT NOT NULL,
    use_sqlite BOOLEAN NOT NULL,
    UNIQUE (account_id, script, class),
    FOREIGN KEY (account_id, script) REFERENCES scripts (account_id, name) ON DELETE CASCADE
);

-- Namespaces whose storage routers may remove. Rows stay: a router that was away
-- for long must learn of them too, and that an id is missing above proves nothing.
CREATE TABLE deleted_durable_object_namespaces (
    id         TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    deleted_on BIGINT NOT NULL
);
CREATE INDEX deleted_durable_object_namespaces_deleted_on ON deleted_durable_object_namespaces (deleted_on);

ALTER TABLE scripts ADD COLUMN migration_tag TEXT NOT NULL DEFAULT '';
-- The namespaces that the version implements, if any: gateways are told, without its code.
ALTER TABLE versions ADD COLUMN objects_json TEXT;

-- +goose Down
ALTER TABLE versions DROP COLUMN objects_json;
ALTER TABLE scripts DROP COLUMN migration_tag;
DROP TABLE deleted_durable_object_namespaces;
DROP TABLE durable_object_namespaces;
