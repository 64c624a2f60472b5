-- +goose Up
-- What each router last told of itself. One that stops in order is removed, one that
-- falls silent is known by its reported_on until it is forgotten.
CREATE TABLE routers (
    id          TEXT PRIMARY KEY,
    started_on  BIGINT NOT NULL, -- of its process
    seen_since  BIGINT NOT NULL,
    reported_on BIGINT NOT NULL, -- by the clock of the control plane
    state_json  TEXT NOT NULL
);

-- +goose Down
DROP TABLE routers;
