-- +goose Up
-- Every policy that was saved, by whom and when; the newest ones of each script, and of
-- the account's default, whose script is ''. No reference to scripts for its sake: the
-- rows of a script are deleted with it.
CREATE TABLE policy_revisions (
    account_id  TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    script      TEXT NOT NULL,
    revision    BIGINT NOT NULL,
    policy_json TEXT, -- null: it was deleted
    created_by  TEXT NOT NULL,
    created_on  BIGINT NOT NULL,
    PRIMARY KEY (account_id, script, revision)
);
INSERT INTO policy_revisions (account_id, script, revision, policy_json, created_by, created_on)
    SELECT account_id, script, 1, policy_json, '', modified_on FROM policies;

-- The revision that holds, of what has a policy.
CREATE TABLE held_policies (
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    script     TEXT NOT NULL,
    enabled    BOOLEAN NOT NULL,
    revision   BIGINT NOT NULL,
    PRIMARY KEY (account_id, script)
);
INSERT INTO held_policies (account_id, script, enabled, revision) SELECT account_id, script, enabled, 1 FROM policies;
DROP TABLE policies;
ALTER TABLE held_policies RENAME TO policies;

-- The tests of a decision with the way there, which is long, and not read with every
-- step of the controller. Null where there is none.
ALTER TABLE decisions ADD COLUMN evidence_json TEXT;

-- +goose Down
ALTER TABLE decisions DROP COLUMN evidence_json;
ALTER TABLE policies RENAME TO held_policies;
CREATE TABLE policies (
    account_id  TEXT NOT NULL,
    script      TEXT NOT NULL,
    enabled     BOOLEAN NOT NULL,
    policy_json TEXT NOT NULL,
    modified_on BIGINT NOT NULL,
    PRIMARY KEY (account_id, script),
    FOREIGN KEY (account_id, script) REFERENCES scripts (account_id, name) ON DELETE CASCADE
);
INSERT INTO policies (account_id, script, enabled, policy_json, modified_on)
    SELECT p.account_id, p.script, p.enabled, r.policy_json, r.created_on FROM held_policies p
    JOIN policy_revisions r ON r.account_id = p.account_id AND r.script = p.script AND r.revision = p.revision
    WHERE p.script <> '';
DROP TABLE held_policies;
DROP TABLE policy_revisions;
