-- +goose Up
-- What is older than its retention is found by its time alone, whatever account it is of.
CREATE INDEX audit_log_time ON audit_log (happened_on);
CREATE INDEX decisions_time ON decisions (decided_on);

-- +goose Down
DROP INDEX decisions_time;
DROP INDEX audit_log_time;
