-- +goose Up
-- What gateways take out of trace events: for all scripts of an account, and for one
-- script beside that. Empty for nothing.
ALTER TABLE accounts ADD COLUMN redaction_json TEXT NOT NULL DEFAULT '';
ALTER TABLE scripts ADD COLUMN redaction_json TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE scripts DROP COLUMN redaction_json;
ALTER TABLE accounts DROP COLUMN redaction_json;
