-- +goose Up
-- The affinity rules of a script, in the order in which gateways try them; a script
-- without rules has no row.
CREATE TABLE affinity (
    account_id  TEXT NOT NULL,
    script      TEXT NOT NULL,
    rules_json  TEXT NOT NULL,
    modified_on BIGINT NOT NULL,
    PRIMARY KEY (account_id, script),
    FOREIGN KEY (account_id, script) REFERENCES scripts (account_id, name) ON DELETE CASCADE
);

-- +goose Down
DROP TABLE affinity;
