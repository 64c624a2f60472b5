-- +goose Up
-- Every step of the rollback controller asks for the decisions about what serves. Decisions
-- are kept for good, so without this each step would read all that were ever made.
CREATE INDEX decisions_deployment ON decisions (account_id, script, from_deployment, decided_on);

-- +goose Down
DROP INDEX decisions_deployment;
