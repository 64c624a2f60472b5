-- +goose Up
-- Whether somebody has said what logpush is to be; until then it is TRUE, as scripts
-- are made, because their events do leave.
ALTER TABLE scripts ADD COLUMN logpush_set BOOLEAN NOT NULL DEFAULT FALSE;

-- +goose Down
-- What is down there lets every script's events leave.
UPDATE scripts SET logpush = TRUE;
ALTER TABLE scripts DROP COLUMN logpush_set;
