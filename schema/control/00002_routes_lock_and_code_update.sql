-- +goose Up
-- routes: its row lock lets one writer of routes in at a time. Whether a host is
-- free takes a look at all of them.
INSERT INTO counters (name, value) VALUES ('routes', 0);

ALTER TABLE deployments ADD COLUMN code_update_json TEXT NOT NULL DEFAULT '{"mode":"deferred","max_delay":300}';

-- +goose Down
ALTER TABLE deployments DROP COLUMN code_update_json;
DELETE FROM counters WHERE name = 'routes';
